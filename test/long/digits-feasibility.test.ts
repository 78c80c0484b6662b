import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { keptSlots } from '../../src/cluster/census.ts';
import { drawSeat, seatRank } from '../../src/cluster/founding.ts';
import {
  DIGITS_ORGANIZATIONS,
  type DigitsOrganization,
  digitsNominalRecords,
  generateDigits,
} from '../../src/data/digits.ts';
import { createRandom, type DataRandom } from '../../src/data/random.ts';
import type { Algorithm, LocalState, ParticipantContext, ReleasedState } from '../../src/learning/algorithm.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { accuracy, summarizeAccuracies } from '../../src/learning/evaluation.ts';
import { initialModel } from '../../src/learning/initial-model.ts';
import { LOCAL_ONLY } from '../../src/learning/local-training.ts';
import { findAlgorithm } from '../../src/learning/registry.ts';
import { poissonSample } from '../../src/learning/sampling.ts';
import { linearStep, publicDenominators } from '../../src/learning/server-optimizer.ts';
import { FINE_TUNING } from '../../src/personalize/fine-tuning.ts';
import { calibrateNoiseMultiplier, type Schedule } from '../../src/privacy/calibrate.ts';

/**
 * Simulation with continuous noise and float clipping, without masking: shows that the parts of the embedded scenario
 * learn, against the table of the learning design (section 5). Size: COVEY_SEEDS seeds from COVEY_FIRST_SEED, 2 from 0.
 */
const SEEDS = Number(process.env['COVEY_SEEDS'] ?? 2);
const FIRST_SEED = Number(process.env['COVEY_FIRST_SEED'] ?? 0);

const ROUNDS = 80;
const SAMPLING = 0.5;
const CLIP = 1;
const HONEST_SHARES = 6;
const CHOICE_ROUNDS = [14, 15, 30];
const CHOICE = { epsilon: 0.5, lossBound: 2 };
const KEPT = 3;
const COUNT_STDDEV = 0.7;
const BUDGET = { epsilon: 8, delta: 1e-5 };

const oracle = createDenseOracle({ inputs: 64, hidden: [48], classes: 10 });
const { manifest } = oracle;
const options = { epochs: LOCAL_ONLY, personal: FINE_TUNING, lambda: 0 };

function scheduleOf(noiseMultiplier: number, choices: number): Schedule {
  const gaussian = { kind: 'gaussian', noiseMultiplier } as const;
  const steps = { event: { kind: 'poissonSampled', probability: SAMPLING, event: gaussian }, count: ROUNDS } as const;
  const choice = {
    event: { kind: 'exponentialMechanism', epsilon: CHOICE.epsilon, monotone: true },
    count: choices,
  } as const;
  return choices === 0 ? [steps] : [steps, choice];
}

function normal(random: DataRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform(0, 1))) * Math.cos(2 * Math.PI * random.uniform(0, 1));
}

function keyStream(seed: number, use: number): ReturnType<typeof nodeCrypto.aes256Ctr> {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setUint32(0, seed);
  new DataView(key.buffer).setUint32(4, use);
  return nodeCrypto.aes256Ctr(key);
}

/** Draws seats until all are distinct and returns everybody's founding slot. */
function foundSlots(seed: number): number[] {
  const stream = keyStream(seed, 1);
  for (;;) {
    const seats = Array.from({ length: DIGITS_ORGANIZATIONS }, () => drawSeat(1_024, stream));
    const sum = new Int32Array(1_024);
    for (const seat of seats) sum[seat] = (sum[seat] ?? 0) + 1;
    const slots = seats.map((seat) => seatRank(sum, seat));
    if (slots.every((slot) => slot !== null)) return slots as number[];
  }
}

function addClipped(
  sums: readonly Float64Array[],
  algorithm: Algorithm,
  context: ParticipantContext,
  record: number,
): void {
  const term = algorithm.recordTerm?.(context, record) ?? [];
  let squares = 0;
  for (const { values } of term) for (const value of values) squares += value * value;
  const factor = Math.min(1, CLIP / Math.sqrt(squares + 1e-24));
  for (const { block, values } of term) {
    const sum = sums[block] as Float64Array;
    for (let i = 0; i < values.length; i++) sum[i] = (sum[i] as number) + factor * (values[i] as number);
  }
}

interface Federation {
  readonly state: ReleasedState;
  readonly slots: readonly number[];
}

/** One run of the shared part; the public step sizes are those of the design (1.2 clustered, 4 global). */
function federate(seed: number, organizations: readonly DigitsOrganization[], clustered: boolean): Federation {
  const algorithm = findAlgorithm(clustered ? 'ifca' : 'fedavgm');
  const random = createRandom(seed, 0x66656431);
  const stream = keyStream(seed, 2);
  const choices = clustered ? CHOICE_ROUNDS : [];
  const noiseMultiplier = calibrateNoiseMultiplier(BUDGET, (z) => scheduleOf(z, choices.length));
  const models = Array.from({ length: clustered ? DIGITS_ORGANIZATIONS : 1 }, () => initialModel(manifest, random));
  const body = Float32Array.from(models[0]?.body ?? []);
  const heads = models.map(({ head }) => Float32Array.from(head));
  let state: ReleasedState = { body, heads, velocity: [body, ...heads].map(({ length }) => new Float64Array(length)) };
  let slots = clustered ? foundSlots(seed) : organizations.map(() => 0);
  // All survive: every one adds a share that six of them would bring to the target.
  const stddev = noiseMultiplier * CLIP * Math.sqrt(DIGITS_ORGANIZATIONS / HONEST_SHARES);
  const contextOf = (i: number): ParticipantContext => {
    const local: LocalState = { slot: slots[i] ?? 0, personal: null };
    return { oracle, data: (organizations[i] as DigitsOrganization).train, released: state, local, options, random };
  };
  for (let round = 0; round < ROUNDS; round++) {
    if (choices.includes(round)) {
      slots = organizations.map(
        (_, i) => algorithm.chooseSlot?.(contextOf(i), { kind: 'exponential', ...CHOICE, stream }) ?? 0,
      );
    }
    if (round === choices[0]) {
      const counts = state.heads.map(
        (_, j) => slots.filter((slot) => slot === j).length + COUNT_STDDEV * normal(random),
      );
      const kept = keptSlots(counts, KEPT);
      state = {
        ...state,
        heads: kept.map((j) => state.heads[j] as Float32Array),
        velocity: [0, ...kept.map((j) => j + 1)].map((j) => state.velocity[j] as Float64Array),
      };
      // Members of closed slots sit out until the next round's choice.
      slots = slots.map((slot) => kept.indexOf(slot));
    }
    const sums = algorithm.layout(manifest, state.heads.length).map(({ realLength }) => new Float64Array(realLength));
    organizations.forEach(({ train }, i) => {
      const drawn = poissonSample(train.count, SAMPLING, stream);
      if ((slots[i] ?? -1) >= 0) for (const record of drawn) addClipped(sums, algorithm, contextOf(i), record);
    });
    for (const sum of sums) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + stddev * normal(random);
    const denominators = publicDenominators(SAMPLING, digitsNominalRecords(DIGITS_ORGANIZATIONS), state.heads.length);
    const next = algorithm.serverStep?.(state, sums, {
      bodyDenominator: denominators.body,
      headDenominator: denominators.head,
      momentum: 0.9,
      step: linearStep(clustered ? 1.2 : 4, round, ROUNDS),
    });
    if (next !== undefined) state = next;
  }
  return { state, slots };
}

function evaluate(
  seed: number,
  organizations: readonly DigitsOrganization[],
  id: string,
  federation: Federation | null,
): number[] {
  const algorithm = findAlgorithm(id);
  const empty: ReleasedState = { body: new Float32Array(0), heads: [], velocity: [] };
  return organizations.map(({ train, test }, i) => {
    const local = { slot: Math.max(0, federation?.slots[i] ?? 0), personal: null };
    const released = federation?.state ?? empty;
    const model = algorithm.personalize({
      oracle,
      data: train,
      released,
      local,
      options,
      random: createRandom(seed, i),
    });
    return accuracy(oracle, model, test);
  });
}

/** Everybody's slot mates are exactly its style group. */
function groupsAreExact({ slots }: Federation, organizations: readonly DigitsOrganization[]): boolean {
  return organizations.every((a, i) =>
    organizations.every((b, j) => (a.group === b.group) === (slots[i] === slots[j])),
  );
}

describe(`digits scenario with simulated noise, ${SEEDS} seeds`, () => {
  it('shows clustered + personal ahead of local and global training', () => {
    const rows = new Map<string, { mean: number; worst: number }[]>();
    let exact = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const organizations = Array.from({ length: DIGITS_ORGANIZATIONS }, (_, i) => generateDigits(seed, i));
      const add = (name: string, id: string, federation: Federation | null): void => {
        const summary = summarizeAccuracies(evaluate(seed, organizations, id, federation));
        rows.set(name, [...(rows.get(name) ?? []), summary]);
      };
      const global = federate(seed, organizations, false);
      const clustered = federate(seed, organizations, true);
      if (groupsAreExact(clustered, organizations)) exact++;
      add('Local only', 'local', null);
      add('Global', 'fedavgm', global);
      add('Global + personal', 'fedavg-ft', global);
      add('clustered', 'ifca', clustered);
      add('clustered + personal', 'ifca-ft', clustered);
    }
    const average = (name: string, key: 'mean' | 'worst'): number => {
      const values = (rows.get(name) ?? []).map((row) => row[key]);
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    for (const name of rows.keys()) {
      process.stdout.write(
        `${name.padEnd(22)} mean ${average(name, 'mean').toFixed(3)} worst ${average(name, 'worst').toFixed(3)}\n`,
      );
    }
    process.stdout.write(`groups exact in ${exact} of ${SEEDS}\n`);
    expect(exact).toBe(SEEDS);
    // The worst organization spreads by .035 between seeds: the full margins are a promise about ten of them.
    const margin = SEEDS >= 10 ? { mean: 0.04, worst: 0.08 } : { mean: 0.03, worst: 0.03 };
    for (const baseline of ['Local only', 'Global']) {
      expect(average('clustered + personal', 'mean') - average(baseline, 'mean')).toBeGreaterThan(margin.mean);
      expect(average('clustered + personal', 'worst') - average(baseline, 'worst')).toBeGreaterThan(margin.worst);
    }
    expect(average('clustered + personal', 'mean')).toBeGreaterThan(average('clustered', 'mean'));
    expect(average('clustered + personal', 'mean')).toBeGreaterThan(average('Global + personal', 'mean'));
  }, 1_800_000);
});
