import { createNetwork, denseNetwork, type NetworkSpec } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorEngine } from '../clients/trainers/tfjs-runtime.ts';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import type { Trainer } from '../src/learning/trainer.ts';
import { NETWORKS } from './support/networks.ts';
import { ALL_OPTIMIZERS, describeTrainer } from './support/trainer-contract.ts';

const shape: DenseShape = { inputs: 11, hidden: [9, 6], classes: 4 };
const options = { crypto: nodeCrypto, monotonicMs: systemClock.monotonicMs };

describeTrainer('dense oracle', {
  make: async () =>
    createOracleTrainer(createDenseOracle(shape), { ...options, featureLength: 11, classes: shape.classes }),
  featureLength: 11,
  assurance: 'computed here',
  accuracy: { gradient: 1e-5, derivative: 1e-4, step: 1e-3, rounding: 1e-12 },
  optimizers: ALL_OPTIMIZERS,
});

async function tfjsTrainer(engine: TensorEngine, spec: NetworkSpec): Promise<Trainer> {
  const network = createNetwork(spec);
  const featureLength = network.inputShape.reduce((product, size) => product * size, 1);
  const oracle = createTfjsOracle(await loadTensorRuntime({ candidates: [engine] }), spec);
  return createOracleTrainer(oracle, { ...options, featureLength, classes: network.classes });
}

const accuracy = { gradient: 1e-4, derivative: 1e-2, step: 3e-3, rounding: 1e-6 };

describeTrainer('tfjs-wasm, multilayer perceptron', {
  make: () => tfjsTrainer('tfjs-wasm', denseNetwork(shape)),
  featureLength: 11,
  assurance: 'computed here',
  accuracy,
  optimizers: ALL_OPTIMIZERS,
});
for (const { name, spec, toFeature } of NETWORKS) {
  describeTrainer(`tfjs-wasm, ${name}`, {
    make: () => tfjsTrainer('tfjs-wasm', spec),
    featureLength: spec.inputShape.reduce((product, size) => product * size, 1),
    toFeature,
    assurance: 'computed here',
    accuracy,
    optimizers: ALL_OPTIMIZERS,
  });
}
