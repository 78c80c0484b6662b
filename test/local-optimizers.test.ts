import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import type { LocalContext } from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { trainEpochs } from '../src/learning/local-steps.ts';
import type { EpochOptions } from '../src/learning/local-training.ts';
import { type LocalOptimizer, optimizerOf } from '../src/learning/optimizer.ts';
import { copyModel, type Model } from '../src/learning/oracle.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import { type FitTask, flattenModel, type Trainer } from '../src/learning/trainer.ts';
import type { RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { contributeOutside } from '../src/run/outside.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, nextOrder } from '../src/run/release.ts';
import { initialModels } from '../src/run/released.ts';
import { type ScenarioOptions, scenarioConfig } from '../src/run/scenario.ts';
import { localContext, placeInSlot } from '../src/run/update.ts';
import { codeOf } from './support/code-of.ts';

const RUN_ID = '0f0e0d0c0b0a09080706050403020100';
const { train } = generateDigits(5, 0);

function configOf(options: Partial<ScenarioOptions> = {}): RunConfig {
  return scenarioConfig('digits', {
    seed: 5,
    steps: 4,
    targetEpsilon: 1e6,
    participants: 4,
    unit: 'participant',
    algorithm: { id: 'fedavg' },
    ...options,
  });
}

const config = configOf();
const oracle = createDenseOracle(config.model);

function contextOf(seed = 3): LocalContext {
  const models = initialModels(config, 1);
  const placement = placeInSlot(1, 0, models.heads[0] as Float32Array);
  return localContext(config, models, placement, 0, { oracle, data: train, local: {} }, createRandom(seed));
}

function trained(optimizer: LocalOptimizer | undefined, epochs: Partial<EpochOptions> = {}): Model {
  const context = contextOf();
  const model = copyModel(context.start);
  const base = { epochs: 2, batchSize: 32, stepSize: 0.05, ...epochs };
  trainEpochs(context, model, optimizer === undefined ? base : { ...base, optimizer });
  return model;
}

/** What a member contributes to the first step from. */
function firstStep(run: RunConfig): Parameters<typeof contribute> {
  const plan = planRun(run);
  const order = nextOrder(plan, initialState(run));
  if (order === null) throw new Error('no session');
  const facts = { runId: RUN_ID, config: run, plan, roster: { version: 1, entries: [], revoked: [] } };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const inputs = { data: train, oracle, local: {}, seed: new Uint8Array(32).fill(7) };
  return [nodeCrypto, run, order, params, NEW_MEMBER, inputs];
}

const sent = (run: RunConfig): Uint32Array => contribute(...firstStep(run)).words;

describe('optimizers of local training', () => {
  it('take the steps of plain SGD where they have neither momentum nor decay', () => {
    expect(trained({ kind: 'sgd' })).toEqual(trained(undefined));
    expect(trained({ kind: 'sgd', momentum: 0.9 })).not.toEqual(trained(undefined));
  });

  it.each<LocalOptimizer>([
    { kind: 'sgd', momentum: 0.9, weightDecay: 0.01 },
    { kind: 'adam', weightDecay: 0.001 },
  ])('are those of a trainer that is asked for the same epochs: $kind', async (optimizer) => {
    const { bodyLength } = oracle.manifest;
    const trainer = createOracleTrainer(oracle, {
      crypto: nodeCrypto,
      featureLength: 64,
      classes: 10,
      monotonicMs: () => 0,
    });
    const context = contextOf();
    // A word of the generator seeds the order of a program's minibatches: the same order here.
    const seed = contextOf().random.word();
    const start = copyModel(context.start);
    const own = { ...context, random: createRandom(seed) };
    trainEpochs(own, start, { epochs: 2, batchSize: 32, stepSize: 0.05, optimizer });
    const { parameters } = await trainer.fit({
      layout: trainer.layout,
      parameters: flattenModel(context.start),
      data: train,
      timeLimitMs: 1e6,
      epochs: 2,
      batchSize: 32,
      optimizer: optimizerOf(0.05, optimizer),
      seed,
    });
    expect(Float32Array.from(start.body)).toEqual(parameters.subarray(0, bodyLength));
    expect(Float32Array.from(start.head)).toEqual(parameters.subarray(bodyLength));
  });

  it('take gradients as the algorithm changes them', () => {
    const end = (push: number): Model => {
      const context = contextOf();
      const model = copyModel(context.start);
      const epochs = { epochs: 1, batchSize: 32, stepSize: 0.05, optimizer: { kind: 'adam' } } as const;
      trainEpochs(context, model, epochs, undefined, (_, gradient) => gradient.body.fill(push));
      return model;
    };
    const [start, up, down] = [contextOf().start, end(-1), end(1)];
    start.body.forEach((value, i) => {
      expect(up.body[i]).toBeGreaterThan(value);
      expect(down.body[i]).toBeLessThan(value);
    });
    expect(up.head).not.toEqual(start.head);
  });

  it('are what a program of the site is asked for', async () => {
    const optimizer = { kind: 'adam', weightDecay: 0.25 } as const;
    const asked: FitTask['optimizer'][] = [];
    const options = { crypto: nodeCrypto, featureLength: 64, classes: 10, monotonicMs: () => 0 };
    const own = createOracleTrainer(oracle, options);
    const trainer: Trainer = {
      ...own,
      fit(task) {
        asked.push(task.optimizer);
        return own.fit(task);
      },
    };
    const onFailure = (error: unknown): never => {
      throw error;
    };
    const outside = { trainer, timeLimitMs: 1e6, monotonicMs: () => 0, onFailure };
    await contributeOutside(...firstStep(configOf({ optimizer, localStep: 0.01 })), outside);
    expect(asked).toEqual([{ kind: 'adam', stepSize: 0.01, weightDecay: 0.25 }]);
  });

  it('move the groups that train and no other', () => {
    const context = contextOf();
    const model = copyModel(context.start);
    trainEpochs(context, model, { epochs: 1, batchSize: 32, stepSize: 0.05, optimizer: { kind: 'adam' } }, ['head']);
    expect(model.body).toEqual(context.start.body);
    expect(model.head).not.toEqual(context.start.head);
  });

  it('are reached from the configuration of a run', () => {
    const words = ([undefined, { kind: 'sgd', momentum: 0.9 }, { kind: 'adam' }] as const).map((optimizer) =>
      sent(configOf({ optimizer, localStep: 0.01 })),
    );
    expect(words[0]).toEqual(sent(configOf({ localStep: 0.01 })));
    expect(words[1]).not.toEqual(words[0]);
    expect(words[2]).not.toEqual(words[0]);
    expect(words[2]).not.toEqual(words[1]);
  });

  it('leave the privacy of the run as it is: the clip bounds whatever they lead to', () => {
    expect(planRun(configOf({ optimizer: { kind: 'adam' } })).sensitivity).toBe(planRun(config).sensitivity);
  });

  it.each([
    ['scaffold', 'control variates'],
    ['per-fedavg', 'inner step'],
    ['q-fedavg', 'curvature'],
    ['metavers', 'episodes'],
  ])('are refused for %s, whose steps are plain ones', (id, reason) => {
    const algorithm = { id };
    expect(codeOf(() => configOf({ algorithm }))).toBeNull();
    expect(() => configOf({ algorithm, optimizer: { kind: 'adam' } })).toThrow(
      new RegExp(`"training.local.optimizer" expected none for ${id}: .*${reason}`),
    );
  });

  it('are refused where nobody trains locally, and for numbers that do not fit', () => {
    expect(() => configOf({ unit: 'record', optimizer: { kind: 'adam' } })).toThrow('"optimizer" expected none');
    expect(() => configOf({ unit: 'record', localStep: 0.1 })).toThrow('"localStep" expected none');
    for (const optimizer of [
      { kind: 'sgd', momentum: 1 },
      { kind: 'adam', weightDecay: -1 },
      { kind: 'adam', momentum: 0.5 },
    ])
      expect(codeOf(() => configOf({ optimizer: optimizer as LocalOptimizer }))).toBe('USAGE_CONFIG');
  });

  it('are counted as the same gradients with noise inside the organizations', () => {
    const local = { unit: 'record', localNoise: { clippingNorm: 1 }, targetEpsilon: 50 } as const;
    const [plain, adam] = [configOf(local), configOf({ ...local, optimizer: { kind: 'adam' } })].map(
      (run) => planRun(run).local,
    );
    expect(plain?.queries).toBeGreaterThan(0);
    expect(adam).toEqual(plain);
  });
});
