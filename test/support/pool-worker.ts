import { networkOf } from '../../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../../clients/trainers/tfjs-runtime.ts';
import { systemClock } from '../../platform/node/clock.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { serveJobs } from '../../platform/node/worker-pool.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createRandom } from '../../src/data/random.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { initialModel } from '../../src/learning/initial-model.ts';
import { createOracleTrainer } from '../../src/learning/oracle-trainer.ts';
import { flattenModel } from '../../src/learning/trainer.ts';

/** What the pool of the tests can be asked. */
export type PoolJob =
  | { readonly kind: 'square'; readonly value: number }
  | { readonly kind: 'refuse'; readonly value: number }
  | { readonly kind: 'throw'; readonly value: unknown }
  | { readonly kind: 'end' | 'overflow' | 'uncopyable' | 'reject-later' }
  | { readonly kind: 'fit'; readonly engine: 'dense' | 'tfjs-wasm'; readonly organization: number };
export type PoolAnswer = number | { readonly parameters: Float32Array; readonly loss: number };

const SHAPE = { inputs: 64, hidden: [48], classes: 10 };

async function train(engine: 'dense' | 'tfjs-wasm', organization: number): Promise<PoolAnswer> {
  const { train: data } = await generateDigits(7, organization);
  const oracle =
    engine === 'dense'
      ? createDenseOracle(SHAPE)
      : createTfjsOracle(await loadTensorRuntime({ candidates: ['tfjs-wasm'] }), networkOf(SHAPE));
  const trainer = createOracleTrainer(oracle, {
    crypto: nodeCrypto,
    featureLength: SHAPE.inputs,
    classes: SHAPE.classes,
    monotonicMs: systemClock.monotonicMs,
  });
  const { parameters, metrics } = await trainer.fit({
    layout: trainer.layout,
    parameters: flattenModel(initialModel(oracle.manifest, createRandom(organization))),
    data,
    epochs: 1,
    batchSize: 32,
    optimizer: { kind: 'sgd', stepSize: 0.1, momentum: 0.5, weightDecay: 0 },
    seed: organization,
    timeLimitMs: 60_000,
  });
  return { parameters, loss: metrics['loss'] ?? 0 };
}

serveJobs(async (job: PoolJob): Promise<PoolAnswer> => {
  switch (job.kind) {
    case 'square':
      return job.value * job.value;
    case 'refuse':
      throw new CoveyError('PRIVACY_BUDGET', `"epsilon" expected less, got ${job.value}`, { value: job.value });
    case 'throw':
      throw job.value;
    case 'end':
      return process.exit(5);
    case 'overflow': {
      const held: number[][] = [];
      for (;;) held.push(new Array<number>(1_000_000).fill(held.length));
    }
    case 'uncopyable':
      return (() => 0) as unknown as PoolAnswer;
    case 'reject-later':
      void Promise.reject(new Error('nobody waits'));
      return new Promise<never>(() => undefined);
    case 'fit':
      return train(job.engine, job.organization);
  }
});
