import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { CoveyError, isCoveyError } from '../protocol/errors.ts';
import { type Dataset, withPersons } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import type { Trainer } from '../src/learning/trainer.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, type MemberInputs, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { checkOutside, checkTimeLimit, contributeOutside, type OutsideTrainer } from '../src/run/outside.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const SHAPE = { inputs: 64, hidden: [12], classes: 10 };
const oracle = createDenseOracle(SHAPE);
const { train } = generateDigits(2, 0);
const member: MemberState = { ...NEW_MEMBER, slot: 0 };

function trainerWith(changes: Partial<Trainer> = {}): Trainer {
  const { monotonicMs } = systemClock;
  return {
    ...createOracleTrainer(createDenseOracle(SHAPE), {
      crypto: nodeCrypto,
      featureLength: 64,
      classes: 10,
      monotonicMs,
    }),
    ...changes,
  };
}

function outsideOf(trainer: Trainer, failures: string[] = []): OutsideTrainer {
  const { monotonicMs } = systemClock;
  return { trainer, timeLimitMs: 60_000, monotonicMs, onFailure: ({ code }) => failures.push(code) };
}

function configFor(unit: 'record' | 'participant', id = 'fedavg', changes: Partial<RunConfig> = {}): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 200, participants: 4, unit });
  const local = unit === 'record' ? null : { epochs: 2, batchSize: 16, stepSize: 0.05 };
  return parseRunConfig({
    ...base,
    model: SHAPE,
    training: { ...base.training, local, momentum: id === 'fedavgm' ? 0.5 : base.training.momentum },
    clusters: null,
    algorithm: { id },
    ...changes,
  });
}

/** Arguments of a contribution without noise. */
function contributionOf(config: RunConfig, given: GradientOracle = oracle, data: Dataset = train) {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'train');
  if (session === undefined) throw new Error('no training step');
  const order = { session, models: initialState(config).models };
  const { roster } = simulatedRoster(nodeCrypto, 4);
  const facts = { runId: '0f0e0d0c0b0a09080706050403020100', config, plan, roster };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const inputs: MemberInputs = { data, oracle: given, local: {}, seed: new Uint8Array(32).fill(9) };
  return { args: [nodeCrypto, config, order, quiet, member, inputs] as const, params: quiet };
}

async function outsideVector(config: RunConfig, outside: OutsideTrainer, data: Dataset = train): Promise<Int32Array> {
  const { args, params } = contributionOf(config, oracle, data);
  return sumCoordinates(params, (await contributeOutside(...args, outside)).words);
}

function insideVector(config: RunConfig, given: GradientOracle, data: Dataset = train): Int32Array {
  const { args, params } = contributionOf(config, given, data);
  return sumCoordinates(params, contribute(...args).words);
}

/** Gradients in the single precision that a program answers in. */
const single: GradientOracle = {
  ...oracle,
  perRecordGradient(body, head, data, record, bodyGradient, headGradient) {
    const [flatBody, flatHead] = [Float64Array.from(body, Math.fround), Float64Array.from(head, Math.fround)];
    const loss = oracle.perRecordGradient(flatBody, flatHead, data, record, bodyGradient, headGradient);
    for (const values of [bodyGradient, headGradient])
      for (let i = 0; i < values.length; i++) values[i] = Math.fround(values[i] as number);
    return loss;
  },
};

describe('a site with a training program of its own', () => {
  it('adds the same terms at unit record, from rows of the program', async () => {
    const config = configFor('record');
    let asked = 0;
    const base = trainerWith();
    const counting = trainerWith({
      recordGradients: (task) => {
        asked += task.records.length;
        return base.recordGradients(task);
      },
    });
    expect(await outsideVector(config, outsideOf(counting))).toEqual(insideVector(config, single));
    expect(asked).toBeGreaterThan(train.count / 4);
    expect(asked).toBeLessThan(train.count);
  });

  it('takes them from the program also where its engine has gradients of many records at a time', async () => {
    const config = configFor('record');
    const recordGradients = (): never => expect.fail('asked for gradients of the engine');
    const { args, params } = contributionOf(config, { ...oracle, recordGradients });
    const { words } = await contributeOutside(...args, outsideOf(trainerWith()));
    expect(sumCoordinates(params, words)).toEqual(insideVector(config, single));
  });

  it("fills the slots of single records as ever, with rows at each slot's model", async () => {
    const base = configFor('record');
    const clusters = {
      assignment: 'soft',
      foundingSlots: 0,
      seatPositions: 0,
      kept: 3,
      choiceSteps: [],
      choiceEpsilon: 1,
      lossBound: 1,
      countNoiseStddev: 1,
    } as const;
    const config = parseRunConfig({ ...base, algorithm: { id: 'fedsoft' }, clusters });
    expect(await outsideVector(config, outsideOf(trainerWith()))).toEqual(insideVector(config, single));
  });

  it('sends the update from start to end of the program at unit participant', async () => {
    const config = configFor('participant');
    const seen: { epochs: number; batchSize: number }[] = [];
    const moved = trainerWith({
      fit: async ({ parameters, epochs, batchSize, data }) => {
        seen.push({ epochs, batchSize });
        return {
          parameters: parameters.map((value, i) => value - (i % 7) / 1_000),
          numExamples: data.count,
          metrics: {},
          assurance: 'trusted trainer',
        };
      },
    });
    const vector = await outsideVector(config, outsideOf(moved));
    expect(seen).toEqual([{ epochs: 2, batchSize: 16 }]);
    const shift = (data: Dataset, start: { body: Float64Array; head: Float64Array }) => {
      void data;
      const flat = Float32Array.from([...start.body, ...start.head]).map((value, i) => value - (i % 7) / 1_000);
      return {
        body: Float64Array.from(flat.subarray(0, start.body.length)),
        head: Float64Array.from(flat.subarray(start.body.length)),
      };
    };
    const { args, params } = contributionOf(config);
    const [crypto, given, order, quiet, who, inputs] = args;
    const expected = contribute(crypto, given, order, quiet, who, { ...inputs, fit: shift });
    expect(vector).toEqual(sumCoordinates(params, expected.words));
    expect(vector.some((value) => value !== 0)).toBe(true);
  });

  it('sends zeros, and tells the site, where the program fails for a reason that may depend on records', async () => {
    const fail = async (): Promise<never> => {
      throw new CoveyError('DEP_TRAINER_TIMEOUT', 'late');
    };
    for (const unit of ['record', 'participant'] as const) {
      const failures: string[] = [];
      const vector = await outsideVector(
        configFor(unit),
        outsideOf(trainerWith({ fit: fail, recordGradients: fail }), failures),
      );
      expect(vector.every((value) => value === 0)).toBe(true);
      expect(failures).toEqual(['DEP_TRAINER_TIMEOUT']);
    }
    const wrong = async (): Promise<never> => {
      throw new CoveyError('USAGE_STATE', 'closed');
    };
    await expect(
      outsideVector(configFor('record'), outsideOf(trainerWith({ recordGradients: wrong }))),
    ).rejects.toThrow('closed');
  });

  it.each(['records', 'persons'] as const)('adds the terms of %s part by part where memory is short', async (whose) => {
    const base = configFor('record');
    const config = parseRunConfig({ ...base, privacy: { ...base.privacy, perPerson: whose === 'persons' } });
    const owned = withPersons(
      train,
      Array.from({ length: train.count }, (_, i) => `person ${Math.floor(i / 5)}`),
    );
    const asked: number[] = [];
    const trainer = trainerWith();
    const counting = trainerWith({
      recordGradients: (task) => {
        asked.push(task.records.length);
        return trainer.recordGradients(task);
      },
    });
    const parameters = trainer.manifest.bodyLength + trainer.manifest.headLength;
    const vector = await outsideVector(config, { ...outsideOf(counting), heldValues: 7 * parameters }, owned);
    expect(vector).toEqual(insideVector(config, single, owned));
    expect(asked.length).toBeGreaterThan(2);
    // A person's rows are clipped together, so the last person of a part may go beyond it.
    expect(Math.max(...asked)).toBe(whose === 'persons' ? 10 : 7);
  });

  it('needs a time limit below the deadline of the run', () => {
    const config = configFor('record');
    expect(() => checkTimeLimit(config, { timeLimitMs: config.deadlineMs - 1 })).not.toThrow();
    expect(() => checkTimeLimit(config, { timeLimitMs: config.deadlineMs })).toThrow(
      /"trainer.timeLimitMs" .* 30000 ms/,
    );
  });

  it('waits for a program that hangs once in a contribution, not once for every part of it', async () => {
    const config = configFor('record');
    const trainer = trainerWith();
    const { bodyLength, headLength } = trainer.manifest;
    let asked = 0;
    const hanging = trainerWith({
      recordGradients: (task) => {
        asked++;
        return asked === 2
          ? Promise.reject(new CoveyError('DEP_TRAINER_TIMEOUT', 'late'))
          : trainer.recordGradients(task);
      },
    });
    const failures: string[] = [];
    const outside = { ...outsideOf(hanging, failures), heldValues: 7 * (bodyLength + headLength) };
    expect((await outsideVector(config, outside)).some((value) => value !== 0)).toBe(true);
    expect([asked, failures]).toEqual([2, ['DEP_TRAINER_TIMEOUT']]);
  });

  it.each(['answers', 'failures'] as const)('spends one time limit on all %s of a step', async (what) => {
    const config = configFor('record');
    const trainer = trainerWith();
    const { bodyLength, headLength } = trainer.manifest;
    let now = 0;
    const limits: number[] = [];
    const slow = trainerWith({
      recordGradients: (task) => {
        limits.push(task.timeLimitMs);
        now += 400;
        return what === 'answers'
          ? trainer.recordGradients(task)
          : Promise.reject(new CoveyError('DEP_TRAINER_EXIT', 'ended'));
      },
    });
    const failures: string[] = [];
    const short = { timeLimitMs: 1_000, monotonicMs: () => now, heldValues: 7 * (bodyLength + headLength) };
    const vector = await outsideVector(config, { ...outsideOf(slow, failures), ...short });
    expect(limits).toEqual([1_000, 600, 200]);
    expect(failures.at(-1)).toBe('DEP_TRAINER_TIMEOUT');
    expect(failures.length).toBe(what === 'answers' ? 1 : 4);
    expect(vector.some((value) => value !== 0)).toBe(what === 'answers');
  });

  it('lets a record that breaks the program take no other record along', async () => {
    const config = configFor('record');
    const base = trainerWith();
    const broken = new Set<number>();
    const fragile = trainerWith({
      recordGradients: (task) =>
        task.records.some((record) => broken.has(record))
          ? Promise.reject(new CoveyError('DEP_TRAINER_EXIT', 'ended'))
          : base.recordGradients(task),
    });
    const drawn: number[] = [];
    const whole = await outsideVector(config, outsideOf(base));
    await outsideVector(
      config,
      outsideOf(
        trainerWith({
          recordGradients: (task) => {
            drawn.push(...task.records);
            return base.recordGradients(task);
          },
        }),
      ),
    );
    const { sensitivity } = planRun(config);
    for (const [first, ...others] of [drawn.slice(3, 4), drawn.slice(-3)]) {
      broken.clear();
      for (const record of [first as number, ...others]) broken.add(record);
      const failures: string[] = [];
      const vector = await outsideVector(config, outsideOf(fragile, failures));
      const lost = Math.hypot(...vector.map((value, i) => value - (whole[i] as number)));
      expect(lost).toBeGreaterThan(0);
      expect(lost).toBeLessThanOrEqual(broken.size * sensitivity);
      // Halves, not records one by one.
      expect(failures.length).toBeLessThan(32);
    }
    // A program that always fails is not asked for ever.
    for (const record of drawn) broken.add(record);
    const failures: string[] = [];
    expect((await outsideVector(config, outsideOf(fragile, failures))).every((value) => value === 0)).toBe(true);
    expect(failures.length).toBeLessThan(200);
  });

  it('serves algorithms that train from a start to an end, and no others', () => {
    const reasonOf = (config: () => RunConfig): string => {
      try {
        checkOutside(config());
      } catch (error) {
        if (isCoveyError(error)) return `${error.code} ${error.message}`;
        throw error;
      }
      return 'accepted';
    };
    for (const id of ['fedavg', 'fedavgm', 'fedadam', 'ditto', 'reptile'])
      expect(reasonOf(() => configFor('participant', id))).toBe('accepted');
    for (const [id, assignment] of [
      ['ifca', 'hard'],
      ['flsc', 'several'],
    ] as const) {
      const clusters = {
        assignment,
        ...(assignment === 'several' ? { filled: 2 } : {}),
        foundingSlots: 0,
        seatPositions: 0,
        kept: 3,
        choiceSteps: assignment === 'hard' ? [0] : [],
        choiceEpsilon: 1,
        lossBound: 1,
        countNoiseStddev: 1,
      };
      expect(reasonOf(() => parseRunConfig({ ...configFor('participant'), algorithm: { id }, clusters }))).toBe(
        'accepted',
      );
    }
    expect(reasonOf(() => configFor('record', 'ditto'))).toBe('accepted');
    for (const id of ['fedprox', 'fedrep', 'per-fedavg'])
      expect(reasonOf(() => configFor('participant', id))).toMatch(new RegExp(`^USAGE_CONFIG "trainer" .*${id}`));
    const base = configFor('participant');
    const batches = { epochs: 1, batches: 3, batchSize: 16, stepSize: 0.05 };
    expect(reasonOf(() => parseRunConfig({ ...base, training: { ...base.training, local: batches } }))).toMatch(
      /whole epochs/,
    );
    expect(
      reasonOf(() =>
        scenarioConfig('digits', {
          seed: 1,
          steps: 2,
          targetEpsilon: 8,
          participants: 4,
          algorithm: { id: 'fedavg' },
          localNoise: { clippingNorm: 1 },
        }),
      ),
    ).toMatch(/noise inside/);
  });
});
