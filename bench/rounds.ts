import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { packLanes } from '../protocol/ring.ts';
import { createDataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { eachUnitGradient } from '../src/learning/unit-gradient.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { factoredTerms, requireFactors } from '../src/run/factored-terms.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun, sessionBlocks } from '../src/run/plan.ts';
import { applyRelease, initialState, nextOrder } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { CNN } from './networks.ts';
import { cpuMs, median } from './session.ts';

/*
 * Where the time of a participant's round goes, without the protocol: training, encoding, noise, everything else that
 * `contribute` does, and the server's decoding and step. Parts are timed by themselves on the same inputs, the whole as it
 * runs; what the parts leave is "rest".
 */

const PARTICIPANTS = 12;
const RECORDS = 100;
interface Case extends Pick<DenseShape, 'inputs' | 'hidden' | 'network'> {
  readonly name: string;
}
const CASES: readonly Case[] = [
  { name: 'd = 3,610 (64-48-10)', inputs: 64, hidden: [48] },
  { name: 'd = 7,850 (784-10)', inputs: 784, hidden: [] },
  { name: 'd = 100,180 (784-126-10)', inputs: 784, hidden: [126] },
  { name: 'd = 106,419 (convolutional network)', inputs: 784, hidden: [], network: CNN },
];
const runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });

function timed(work: () => void, repeats = 21): number {
  for (let i = 0; i < 8; i++) work();
  return median(
    Array.from({ length: repeats }, () => {
      const before = cpuMs();
      work();
      return cpuMs() - before;
    }),
  );
}

type Kind = 'participant' | 'record' | 'float-bounded';

function configOf({ hidden, inputs, network }: Case, kind: Kind): RunConfig {
  const unit = kind === 'participant' ? 'participant' : 'record';
  const base = scenarioConfig('digits', { seed: 1, steps: 20, targetEpsilon: 8, participants: PARTICIPANTS, unit });
  return parseRunConfig({
    ...base,
    model: { inputs, hidden: [...hidden], classes: 10, ...(network === undefined ? {} : { network }) },
    algorithm: { id: 'fedavg' },
    training: {
      ...base.training,
      samplingProbability: unit === 'record' ? 0.5 : 1,
      local: unit === 'record' ? null : { epochs: 1, batchSize: 16, stepSize: 0.1 },
    },
    clusters: null,
    privacy: { ...base.privacy, ...(kind === 'float-bounded' ? { terms: 'float-bounded' } : {}) },
  });
}

function measure(shape: Case, kind: Kind): number[] {
  const { inputs } = shape;
  const config = configOf(shape, kind);
  const { unit } = config.privacy;
  const plan = planRun(config);
  const state = initialState(config);
  const order = nextOrder(plan, state);
  if (order === null) throw new Error('no session');
  const { roster } = simulatedRoster(nodeCrypto, PARTICIPANTS);
  const facts = { runId: '00'.repeat(16), config, plan, roster };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const random = createRandom(1);
  const data = createDataset(
    inputs,
    10,
    Float32Array.from({ length: RECORDS * inputs }, () => random.uniform(-1, 1)),
    Uint8Array.from({ length: RECORDS }, () => random.integer(10)),
  );
  const oracle =
    shape.network === undefined ? createDenseOracle(config.model) : createTfjsOracle(runtime, networkOf(config.model));
  const model = {
    body: Float64Array.from(state.models.body),
    head: Float64Array.from(state.models.heads[0] ?? []),
  };
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const blocks = sessionBlocks(config, order.session, 1);
  const encoder = createEncoder(nodeCrypto, { blocks, clippingNorm, scale, rotationSeed });
  const stream = (): ReturnType<typeof nodeCrypto.aes256Ctr> => nodeCrypto.aes256Ctr(new Uint8Array(32));
  const sampler = createDiscreteGaussian(params.noise.shareVariance);
  const coordinates = blocks.reduce((sum, block) => sum + block.length, 0);
  const values = new Int32Array(coordinates);
  const drawn = Math.round(RECORDS * config.training.samplingProbability);
  const first = Uint32Array.from({ length: RECORDS / 2 }, (_, i) => i);
  const gradient = { body: model.body.slice(), head: model.head.slice() };
  const training = timed(() => {
    if (unit === 'participant') {
      fineTune(oracle, model, data, createRandom(1), { epochs: 1, batchSize: 16, stepSize: 0.1 });
      return;
    }
    if (kind === 'float-bounded') {
      oracle.factors?.pass(model.body, model.head, data, first);
      return;
    }
    const units = Array.from({ length: drawn }, (_, record) => [record]);
    eachUnitGradient(oracle, data, model, units, gradient, () => {});
  });
  const spec = { blocks, clippingNorm, scale, rotationSeed };
  const units = Array.from({ length: RECORDS }, (_, record) => [record]);
  const group = { head: model.head, slots: [0], weight: 1, units: [...first] };
  const terms = { blocks, body: model.body, units, groups: [group], isLeftOut: () => false };
  const factors = requireFactors(oracle);
  const given = factors.pass(model.body, model.head, data, first);
  const passed = { ...oracle, factors: { ...factors, pass: () => given } };
  const encoding = timed(() => {
    if (unit === 'participant') {
      encoder.encodeContribution([model.body, model.head], stream());
      return;
    }
    if (kind === 'float-bounded') {
      factoredTerms(nodeCrypto, config, spec, terms, { data, oracle: passed, seed: new Uint8Array(32) }, stream());
      return;
    }
    const term = [
      { block: 0, values: gradient.body },
      { block: 1, values: gradient.head },
    ];
    for (let record = 0; record < drawn; record++) encoder.addRecord(values, term);
  });
  const noise = timed(() => sampler.add(values, stream()));
  const member = { ...NEW_MEMBER, slot: 0 };
  const all = timed(() => {
    const given = { data, oracle, local: {}, seed: new Uint8Array(32) };
    contribute(nodeCrypto, config, order, params, member, given);
  });
  const sum = packLanes(new Int32Array(coordinates).fill(5), params.ring.lanes);
  const server = timed(() => applyRelease(nodeCrypto, config, plan, state, params, sum, PARTICIPANTS));
  const parts = training + encoding + noise;
  // Timed one by one: where the whole takes no longer than its parts nothing is left for the rest.
  return [training, encoding, noise, Math.max(0, all - parts), Math.max(all, parts), server];
}

console.log(
  `Node ${process.version}, one thread, CPU time, medians. One participant with ${RECORDS} records; unit participant: one epoch in batches of 16, unit record: half of the records.\n`,
);
console.log('| model | unit | training | encoding | noise | rest | all | encoding + noise | server, a round |');
console.log('|---|---|---|---|---|---|---|---|---|');
for (const shape of CASES)
  for (const kind of ['participant', 'record', 'float-bounded'] as const) {
    const times = measure(shape, kind);
    const [training = 0, encoding = 0, noise = 0, rest = 0, all = 1, server = 0] = times;
    const share = (ms: number): string => `${ms.toFixed(2)} ms (${Math.round((100 * ms) / all)} %)`;
    const parts = [training, encoding, noise, rest].map(share);
    console.log(
      `| ${[shape.name, kind === 'float-bounded' ? 'record, float-bounded' : kind, ...parts, `${all.toFixed(2)} ms`, `${(encoding + noise).toFixed(2)} ms`, `${server.toFixed(2)} ms`].join(' | ')} |`,
    );
  }
