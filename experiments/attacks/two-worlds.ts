import { CoveyError } from '../../protocol/errors.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { auditOneRun } from '../../src/audit/empirical/one-run.ts';
import { appendRecords, createDataset, type Dataset, selectRecords } from '../../src/data/dataset.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createRandom } from '../../src/data/random.ts';
import { gaussianEpsilon } from '../../src/privacy/analytic-gaussian.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../../src/run/member.ts';
import type { SessionOrder } from '../../src/run/order.ts';
import { planRun } from '../../src/run/plan.ts';
import { sumCoordinates } from '../../src/run/release.ts';
import { tossCoins } from '../canaries.ts';
import {
  type AttackOptions,
  type AttackReport,
  count,
  oracleOf,
  percent,
  report,
  SIGNIFICANCE,
  VIEW_ASSUMPTION,
} from './attack-report.ts';
import { dot, observeRun, type Released, type Site } from './observe.ts';

/*
 * The strongest test of a sum's sensitivity that knows everything but the coins and the noise: for every canary record it
 * computes what the organization adds with and without it, and projects the release on the difference. Where a record
 * moves more than its own term - through a head, a batch statistic, a label count - the difference shows all of it.
 */

const CANDIDATE_STREAM = 0x6361_6e64;
/** Brightness of candidates: within the usual range, outside, and far enough to rule whatever is trained on it. */
const BRIGHTNESSES: readonly number[] = [1, 64, 4_096];
/** Spikes, and patterns of each brightness. */
const TRIED = 3;
/** A later candidate is taken only if it moves the sum by this factor more: spikes are orthogonal and come first. */
const CLEARLY_MORE = 1.02;

/** Hidden units of the digits' own model, and records of an organization: hundreds of runs are made, and no guarantee depends on these. */
const TRIAL_WIDTH = 12;
const TRIAL_RECORDS = 40;

/**
 * Records that may move a sum most. Features have no public bound: a far record is a legitimate neighbour.
 * One far pixel has a gradient of its own; a bright mean of the own records, under each label, pulls a head that is
 * trained on it the same way for all of them, so that their gradients move together.
 */
function candidates(seed: number, organization: number, own: Dataset): Dataset[] {
  const { classes, count, features, featureLength } = own;
  const random = createRandom(seed, CANDIDATE_STREAM + organization);
  const make = (label: number, pixelOf: (i: number) => number): Dataset =>
    createDataset(
      featureLength,
      classes,
      Float32Array.from({ length: featureLength }, (_, i) => pixelOf(i)),
      Uint8Array.of(label),
    );
  const mean = new Float64Array(featureLength);
  features.forEach((value, i) => {
    mean[i % featureLength] = (mean[i % featureLength] as number) + value / count;
  });
  const tried = Array.from({ length: TRIED }, () => random.integer(classes));
  return [
    ...tried.map((label) => {
      const pixel = random.integer(featureLength);
      return make(label, (i) => (i === pixel ? 64 : 0));
    }),
    ...BRIGHTNESSES.flatMap((brightness) => [
      ...tried.map((label) => make(label, () => brightness * random.integer(2))),
      ...Array.from({ length: classes }, (_, label) => make(label, (i) => brightness * (mean[i] as number))),
    ]),
  ];
}

/** What an organization adds to a session before its noise. Units: integer units; `released` by `contribute` itself. */
function noiselessSum(
  { crypto }: AttackOptions,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  { data, oracle }: Site,
): Float64Array {
  const silent: SessionParams = { ...params, noise: { ...params.noise, mechanism: 'none', shareVariance: 0 } };
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32) };
  const { words } = contribute(crypto, config, order, silent, NEW_MEMBER, inputs);
  return Float64Array.from(sumCoordinates(params, words));
}

const norm = (values: Float64Array): number => Math.sqrt(dot(values, values));
const minus = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value - (b[i] as number));

/** Solves A x = b for each b; A symmetric and positive definite. Shapes: n x n, then rows of n. */
function solve(matrix: readonly Float64Array[], right: readonly Float64Array[]): Float64Array[] {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  const b = right.map((row) => row.slice());
  for (let k = 0; k < n; k++) {
    const pivot = a[k] as Float64Array;
    for (let i = k + 1; i < n; i++) {
      const row = a[i] as Float64Array;
      const factor = (row[k] as number) / (pivot[k] as number);
      for (let j = k; j < n; j++) row[j] = (row[j] as number) - factor * (pivot[j] as number);
      for (const values of b) values[i] = (values[i] as number) - factor * (values[k] as number);
    }
  }
  for (const values of b)
    for (let i = n - 1; i >= 0; i--) {
      const row = a[i] as Float64Array;
      let rest = values[i] as number;
      for (let j = i + 1; j < n; j++) rest -= (row[j] as number) * (values[j] as number);
      values[i] = rest / (row[i] as number);
    }
  return b;
}

/** One organization in both worlds, at one released model. */
interface Worlds {
  readonly without: Float64Array;
  readonly shift: Float64Array;
}

/**
 * Log-likelihood ratios "canary in" over "out", up to the noise variance, for the canaries of one release.
 * Least squares on the shifts: those of the other canaries of the release are taken out, whoever was in.
 */
function likelihoodRatios(sum: Float64Array, worlds: readonly Worlds[]): number[] {
  // Every canary by half: what is left is plus or minus half of each shift, and noise.
  const rest = sum.slice();
  for (const { without, shift } of worlds)
    for (let i = 0; i < rest.length; i++)
      rest[i] = (rest[i] as number) - (without[i] as number) - (shift[i] as number) / 2;
  const gram = worlds.map(({ shift: a }) => Float64Array.from(worlds, ({ shift: b }) => dot(a, b)));
  // Shifts that coincide cannot be told apart; a trace of a ridge keeps the system solvable.
  const ridge = 1e-9 * gram.reduce((trace, row, i) => trace + (row[i] as number), 1e-9);
  gram.forEach((row, i) => {
    row[i] = (row[i] as number) + ridge;
  });
  const units = worlds.map((_, i) => Float64Array.from(worlds, (__, j) => (i === j ? 1 : 0)));
  const [halves, ...inverse] = solve(gram, [Float64Array.from(worlds, ({ shift }) => dot(shift, rest)), ...units]);
  return worlds.map((_, i) => ((halves as Float64Array)[i] as number) / ((inverse[i] as Float64Array)[i] as number));
}

/** Unit record: independent short runs, one canary record in each organization. @see Nasr et al. 2023; Steinke et al. 2023 */
export function attackTwoWorlds(options: AttackOptions, base: RunConfig): AttackReport {
  const { canaries, participants, seed, steps } = options;
  if (canaries % participants !== 0)
    throw new CoveyError(
      'USAGE_RANGE',
      `"canaries" expected a multiple of ${participants} participants for two-worlds, got ${canaries}`,
    );
  // Every record in every step: what an organization adds is then a function of its records alone.
  const config: RunConfig = {
    ...base,
    model: options.model === undefined ? { ...base.model, hidden: [TRIAL_WIDTH] } : base.model,
    training: { ...base.training, samplingProbability: 1 },
  };
  const plan = planRun(config);
  const own = Array.from(
    { length: participants },
    (_, i): Site => ({
      data: selectRecords(
        generateDigits(seed, i).train,
        Uint32Array.from({ length: TRIAL_RECORDS }, (_, j) => j),
      ),
      oracle: oracleOf(options, config.model),
    }),
  );
  const worldsAt = ({ orders, params }: Released, t: number, canary: readonly Dataset[]): Worlds[] =>
    own.map((site, i) => {
      const at = [orders[t] as SessionOrder, params[t] as SessionParams] as const;
      const without = noiselessSum(options, config, ...at, site);
      const joined = { ...site, data: appendRecords(site.data, canary[i] as Dataset) };
      return { without, shift: minus(noiselessSum(options, config, ...at, joined), without) };
    });
  const observe = (sites: readonly Site[], trial: number): Released =>
    observeRun(options, config, sites, { step: 0 }, trial);

  // The first release of every run starts from the same public model, so its worlds are computed once.
  const first = observe(own, 0);
  const chosen = own.map(({ data, oracle }, i) => {
    const [order, params] = [first.orders[0] as SessionOrder, first.params[0] as SessionParams];
    const without = noiselessSum(options, config, order, params, { data, oracle });
    return candidates(seed, i, data)
      .map((record) => {
        const joined = { data: appendRecords(data, record), oracle };
        return { record, moved: norm(minus(noiselessSum(options, config, order, params, joined), without)) };
      })
      .reduce((best, next) => (next.moved > CLEARLY_MORE * best.moved ? next : best)).record;
  });
  const start = worldsAt(first, 0, chosen);

  const included = tossCoins(seed, canaries);
  const scores: number[] = [];
  let furthest = 0;
  for (let trial = 1; trial <= canaries / participants; trial++) {
    const coins = included.slice((trial - 1) * participants, trial * participants);
    const sites = own.map((site, i) =>
      coins[i] ? { ...site, data: appendRecords(site.data, chosen[i] as Dataset) } : site,
    );
    const released = observe(sites, trial);
    const ratios = new Float64Array(participants);
    const squares = new Float64Array(participants);
    for (let t = 0; t < steps; t++) {
      const worlds = t === 0 ? start : worldsAt(released, t, chosen);
      likelihoodRatios(Float64Array.from(released.sums[t] as Int32Array), worlds).forEach((ratio, i) => {
        const { shift } = worlds[i] as Worlds;
        ratios[i] = (ratios[i] as number) + ratio;
        squares[i] = (squares[i] as number) + dot(shift, shift);
      });
    }
    scores.push(...ratios);
    furthest = Math.max(furthest, ...squares);
  }
  const { delta } = config.privacy;
  const audit = auditOneRun(scores, included, delta, SIGNIFICANCE);
  const noiseStddev = Math.sqrt(config.cohort.participants * plan.shareVariance);
  const { correct, epsilonLowerBound, guesses } = audit;
  const shiftInClips = Math.sqrt(furthest / steps) / plan.sensitivity;
  const epsilonCeiling = gaussianEpsilon(noiseStddev / Math.sqrt(furthest), delta);
  return report({
    method: 'two-worlds',
    seed,
    canaries,
    claim: first.claim,
    epsilonLowerBound,
    tried: `one record in each of ${participants} organizations, in ${canaries / participants} runs of ${count(steps, 'step')}, added by a fair coin; the sums are projected on the known difference that it makes`,
    found: `${correct} of the ${guesses} surest guesses are right (${percent(correct / guesses)}); one record moves a sum by up to ${shiftInClips.toFixed(2)} clips, accounted for is 1; with the declared noise that is worth epsilon ${epsilonCeiling.toFixed(2)} at most`,
    evidence: { guesses, correct, shiftInClips, epsilonCeiling },
    assumptions: [
      VIEW_ASSUMPTION,
      'canaries: of 42 candidate records, the one that moves the sum of its organization most; every record in every step',
      'runs: a small model, 40 records each, fresh noise and fresh coins in each, so that trials are independent',
      'guesses: four shares of the canaries, each tested at a quarter of the error',
    ],
  });
}
