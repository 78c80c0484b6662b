import { createNetwork, networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, TENSOR_ENGINES } from '../clients/trainers/tfjs-runtime.ts';
import { createDataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { eachUnitGradient } from '../src/learning/unit-gradient.ts';
import { CNN, TEXT } from './networks.ts';

/**
 * Time of the mean gradient of 32 records, of the gradients of these records one by one, and of a mean over one record alone, for
 * each engine that works here. Units: milliseconds of CPU.
 */
const SHAPE = { inputs: 784, hidden: [128], classes: 10 };
const random = createRandom(1);

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Median CPU time of a call, of several rounds of at least 50 ms. */
function time(act: () => void): number {
  act();
  const rounds = Array.from({ length: 7 }, () => {
    let calls = 0;
    const start = process.cpuUsage();
    let spent = 0;
    do {
      act();
      calls++;
      const { user, system } = process.cpuUsage(start);
      spent = (user + system) / 1_000;
    } while (spent < 50);
    return spent / calls;
  });
  return median(rounds);
}

function measure(oracle: GradientOracle, featureLength: number, toFeature: () => number): number[] {
  const features = Float32Array.from({ length: 32 * featureLength }, toFeature);
  const labels = Uint8Array.from({ length: 32 }, () => random.integer(10));
  const data = createDataset(featureLength, 10, features, labels);
  const { body, head } = initialModel(oracle.manifest, random);
  const gradient = { body: new Float64Array(body.length), head: new Float64Array(head.length) };
  const records = Uint32Array.from({ length: 32 }, (_, i) => i);
  const units = Array.from(records, (record) => [record]);
  const one = Uint32Array.of(3);
  return [
    time(() => oracle.meanGradient(body, head, data, records, gradient.body, gradient.head)),
    time(() => eachUnitGradient(oracle, data, { body, head }, units, gradient, () => {})),
    time(() => oracle.meanGradient(body, head, data, one, gradient.body, gradient.head)),
  ];
}

const uniform = (): number => random.uniform(-1, 1);
const word = (): number => random.integer(5_000);
console.log('| model | parameters | engine | mean of 32, ms | each of 32, ms | mean of one, ms |');
console.log('|---|---|---|---|---|---|');
const print = (model: string, oracle: GradientOracle, engine: string, inputs: number, feature: () => number): void => {
  const times = measure(oracle, inputs, feature).map((ms) => ms.toFixed(2));
  const parameters = oracle.manifest.bodyLength + oracle.manifest.headLength;
  console.log(`| ${model} | ${parameters} | ${engine} | ${times.join(' | ')} |`);
};
print('perceptron 784-128-10', createDenseOracle(SHAPE), 'dense', SHAPE.inputs, uniform);
for (const engine of TENSOR_ENGINES) {
  const runtime = await loadTensorRuntime({ candidates: [engine] }).catch((error: Error) => error.message);
  if (typeof runtime === 'string') {
    console.log(`${engine} is not measured: ${runtime}`);
    continue;
  }
  const networks = [
    ['perceptron 784-128-10', networkOf(SHAPE), uniform],
    // Plain JavaScript takes seconds for a batch of images.
    ...(engine === 'tfjs-cpu'
      ? []
      : ([
          ['convolutional network', CNN, uniform],
          ['text classifier', TEXT, word],
        ] as const)),
  ] as const;
  for (const [model, spec, feature] of networks) {
    const inputs = createNetwork(spec).inputShape.reduce((product, size) => product * size, 1);
    print(model, createTfjsOracle(runtime, spec), engine, inputs, feature);
  }
}
