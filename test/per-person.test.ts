import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkData } from '../clients/core/policy.ts';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { clippedLossScore } from '../src/cluster/choice.ts';
import { type Dataset, selectRecords, unitsOf, withPersons } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { lossesOfUnits } from '../src/learning/unit-gradient.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, type MemberState, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const oracle = createDenseOracle({ inputs: 64, hidden: [12], classes: 10 });
const { train } = generateDigits(2, 0);
/** Every person owns five rows. */
const persons = withPersons(
  train,
  Array.from({ length: train.count }, (_, i) => `person ${Math.floor(i / 5)}`),
);

function configFor(perPerson: boolean): RunConfig {
  const base = scenarioConfig('digits', { seed: 5, steps: 2, targetEpsilon: 200, participants: 4, perPerson });
  return parseRunConfig({
    ...base,
    model: { inputs: 64, hidden: [12], classes: 10 },
    training: { ...base.training, samplingProbability: 1 },
    clusters: null,
  });
}

function vectorOf(config: RunConfig, data: Dataset): Int32Array {
  const plan = planRun(config);
  const session = plan.schedule.find(({ kind }) => kind === 'train');
  if (session === undefined) throw new Error('no training step');
  const order = { session, models: initialState(config).models };
  const { roster } = simulatedRoster(nodeCrypto, 4);
  const facts = { runId: '0f0e0d0c0b0a09080706050403020100', config, plan, roster };
  const params = orderParams(nodeCrypto, facts, order, { round: 1, attempt: 0 });
  const quiet = { ...params, noise: { mechanism: 'none', shareVariance: 0 } as const };
  const member: MemberState = { ...NEW_MEMBER, slot: 0 };
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(9) };
  return sumCoordinates(quiet, contribute(nodeCrypto, config, order, quiet, member, inputs).words);
}

/** Squared norm of what the sum loses with the rows of one person. */
function lostWith(config: RunConfig, data: Dataset, gone: (record: number) => boolean): number {
  const kept = Uint32Array.from({ length: data.count }, (_, i) => i).filter((record) => !gone(record));
  const [all, fewer] = [vectorOf(config, data), vectorOf(config, selectRecords(data, kept))];
  return all.reduce((sum, value, i) => sum + (value - (fewer[i] as number)) ** 2, 0);
}

describe('one clip for a person with several rows', () => {
  const isFirst = (record: number): boolean => record < 5;

  it('bounds what a person adds, however many rows it owns', () => {
    const { sensitivity } = planRun(configFor(true));
    const lost = lostWith(configFor(true), persons, isFirst);
    expect(lost).toBeGreaterThan(0);
    expect(lost).toBeLessThanOrEqual(sensitivity ** 2);
    // Clipped row by row the same person moves the sum by more than the charge.
    expect(lostWith(configFor(false), persons, isFirst)).toBeGreaterThan(sensitivity ** 2);
  });

  it.each(['one head', 'soft slots'])('bounds every person of any table, whatever its rows hold: %s', (heads) => {
    const base = configFor(true);
    const clusters = {
      assignment: 'soft',
      foundingSlots: 0,
      seatPositions: 0,
      kept: 2,
      choiceSteps: [],
      choiceEpsilon: 1,
      lossBound: 1,
      countNoiseStddev: 1,
    } as const;
    const config = heads === 'one head' ? base : parseRunConfig({ ...base, algorithm: { id: 'fedsoft' }, clusters });
    const { sensitivity } = planRun(config);
    const odd = fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, 3e38, -3e38, 1e-45, 0, 1e4);
    const rowOf = fc.record({ from: fc.nat(train.count - 1), person: fc.nat(5), odd: fc.option(odd, { freq: 3 }) });
    fc.assert(
      fc.property(fc.array(rowOf, { minLength: 1, maxLength: 16 }), fc.nat(5), (rows, gone) => {
        const chosen = selectRecords(
          train,
          Uint32Array.from(rows, ({ from }) => from),
        );
        rows.forEach((row, i) => {
          if (row.odd !== null) chosen.features[i * chosen.featureLength + (i % 7)] = row.odd;
        });
        const data = withPersons(
          chosen,
          rows.map(({ person }) => `person ${person}`),
        );
        expect(lostWith(config, data, (record) => rows[record]?.person === gone)).toBeLessThanOrEqual(sensitivity ** 2);
      }),
      { numRuns: 60 },
    );
  });

  it('draws whole persons', () => {
    const config = configFor(true);
    const half = { ...config, training: { ...config.training, samplingProbability: 0.5 } };
    // Persons whose rows all say the same have a sum of five times one row: below the clip it shows which were drawn.
    const units = unitsOf(persons, true);
    expect(units.length).toBe(Math.ceil(train.count / 5));
    expect(vectorOf(half, persons)).not.toEqual(vectorOf(config, persons));
    const alone = selectRecords(persons, Uint32Array.of(0, 1, 2, 3, 4));
    const [some, whole] = [vectorOf(half, alone), vectorOf(config, alone)];
    expect(some.every((value) => value === 0) || some.join() === whole.join()).toBe(true);
  });

  it('bounds what a person adds to the score of a slot', () => {
    const losses = oracle.losses(
      new Float64Array(oracle.manifest.bodyLength),
      new Float64Array(oracle.manifest.headLength),
      persons,
    );
    const units = unitsOf(persons, true);
    const score = clippedLossScore(lossesOfUnits(losses, units), 2);
    const without = clippedLossScore(lossesOfUnits(losses, units.slice(1)), 2);
    expect(without - score).toBeGreaterThan(0);
    expect(without - score).toBeLessThanOrEqual(2 + 1e-9);
  });

  it('is refused where nobody says whose the records are, or at unit participant', () => {
    const codeOf = (act: () => unknown): string => {
      try {
        act();
      } catch (error) {
        if (isCoveyError(error)) return `${error.code} ${error.message}`;
        throw error;
      }
      return 'accepted';
    };
    expect(codeOf(() => vectorOf(configFor(true), train))).toMatch(/^USAGE_CONFIG "data" expected a person/);
    expect(codeOf(() => checkData(configFor(true), train))).toMatch(/^USAGE_CONFIG "data" expected a person/);
    expect(codeOf(() => checkData(configFor(true), persons))).toBe('accepted');
    const wide = { ...persons, featureLength: 63 };
    expect(codeOf(() => checkData(configFor(true), wide))).toMatch(/expected 64 features .* got 63/);
    expect(
      codeOf(() =>
        scenarioConfig('digits', {
          seed: 1,
          steps: 2,
          targetEpsilon: 8,
          participants: 12,
          unit: 'participant',
          perPerson: true,
        }),
      ),
    ).toMatch(/"privacy.perPerson" expected unit record/);
  });
});
