import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { SecureSum } from '../protocol/ideal.ts';
import type { SessionParams } from '../protocol/session.ts';
import { auditMembership, truePositiveRateAt } from '../src/audit/empirical/membership.ts';
import { auditOneRun } from '../src/audit/empirical/one-run.ts';
import { auditOneShot } from '../src/audit/empirical/one-shot.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import type { EpsilonReport } from '../src/privacy/views.ts';
import type { RunConfig } from '../src/run/config.ts';
import { planRun, trainingBlocks } from '../src/run/plan.ts';
import { applyRelease, initialState, type ReleaseState, sumCoordinates } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import {
  appendRecords,
  blankRecords,
  canaryCoordinates,
  canaryDirections,
  participantCanaryOracle,
  recordCanaryOracle,
  type SessionClock,
  tossCoins,
} from './canaries.ts';
import { globalConfig, simulationStream } from './comparison.ts';
import { runInProcess } from './in-process.ts';

export const ATTACK_METHODS = ['one-run', 'one-shot', 'membership'] as const;
export type AttackMethod = (typeof ATTACK_METHODS)[number];

export interface AttackOptions {
  readonly method: AttackMethod;
  readonly seed: number;
  readonly canaries: number;
  readonly steps: number;
  readonly targetEpsilon: number;
  /** Organizations with data, at most 12; one-shot adds one participant for each canary. */
  readonly participants: number;
  /** Further members that hold no records and add their share of the noise. */
  readonly idle?: number;
  readonly crypto: CryptoProvider;
  /** The ideal aggregator by default; the masked protocol releases the same bits. */
  readonly secureSum?: SecureSum;
}

export interface AttackReport {
  readonly method: AttackMethod;
  readonly seed: number;
  readonly canaries: number;
  /** What the accountant says of the run that was attacked. */
  readonly claim: EpsilonReport;
  readonly epsilonLowerBound: number;
  readonly confidence: number;
  readonly verdict: 'consistent' | 'violated';
  /** Numbers of the method: guesses, rates, fitted law. */
  readonly evidence: Readonly<Record<string, number>>;
  /** What the bound holds under. */
  readonly assumptions: readonly string[];
}

/** Probability that a bound exceeds the true epsilon. */
const SIGNIFICANCE = 0.05;
/** Separates the noise of attacked runs from every other use of a seed. */
const NOISE_USE = 3;
const LABEL_STREAM = 0x6c61_6265;

/** Everything that the coordinator has after a run. */
interface Released {
  readonly params: readonly SessionParams[];
  readonly sums: readonly Int32Array[];
  /** Models that each step started from. */
  readonly models: readonly ReleaseState['models'][];
  readonly claim: EpsilonReport;
}

interface Site {
  readonly data: Dataset;
  readonly oracle: GradientOracle;
}

function emptySite(config: RunConfig): Site {
  const { inputs, classes } = config.model;
  return {
    data: createDataset(inputs, classes, new Float32Array(0), new Uint8Array(0)),
    oracle: createDenseOracle(config.model),
  };
}

/** Runs the real contributions, noise, sums and decoding, and keeps what the coordinator sees and nothing else. */
function observeRun(
  options: AttackOptions,
  config: RunConfig,
  organizations: readonly Site[],
  clock: SessionClock,
): Released {
  const { crypto, seed, secureSum } = options;
  const plan = planRun(config);
  const params: SessionParams[] = [];
  const sums: Int32Array[] = [];
  const models: ReleaseState['models'][] = [];
  let state = initialState(config);
  const { epsilon } = runInProcess({
    config,
    crypto,
    organizations: [...organizations, ...Array.from({ length: options.idle ?? 0 }, () => emptySite(config))],
    runId: '61747461636b65642072756e00000000',
    random: simulationStream(crypto, seed, NOISE_USE),
    isPresent: () => true,
    ...(secureSum === undefined ? {} : { secureSum }),
    onRelease(session, sum, survivors) {
      params.push(session);
      sums.push(sumCoordinates(session, sum));
      models.push(state.models);
      // The coordinator's own replay: released sums alone lead to the models.
      state = applyRelease(crypto, config, plan, state, session, sum, survivors);
      clock.step += 1;
    },
  });
  const { unit, relation, delta } = config.privacy;
  const { colluders } = config.cohort;
  const claim: EpsilonReport = {
    epsilon: epsilon.server,
    delta,
    unit,
    relation,
    view: 'server',
    colluders,
    accountant: 'rdp',
  };
  return { params, sums, models: [...models, state.models], claim };
}

/** Decodes sums from which their mean over the steps is taken off: noise that was used twice goes with it. */
function decodeChanges(crypto: CryptoProvider, config: RunConfig, { params, sums }: Released): Float64Array[][] {
  const blocks = trainingBlocks(config, 1);
  const mean = new Float64Array(sums[0]?.length ?? 0);
  if (sums.length > 1)
    for (const sum of sums)
      for (let i = 0; i < mean.length; i++) mean[i] = (mean[i] as number) + (sum[i] as number) / sums.length;
  return sums.map((sum, t) => {
    const { clippingNorm, scale, rotationSeed } = (params[t] as SessionParams).encoding;
    const encoder = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed });
    return encoder.decode(sum.map((value, i) => value - Math.round(mean[i] as number)));
  });
}

const VIEW_ASSUMPTION =
  'view: the coordinator, with every released sum and model and all records but the canaries; it takes off no colluder share';

/** Unit record, gradient canaries, guesses on who was in. @see Steinke, Nasr, Jagielski 2023 */
function attackOneRun(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = createDenseOracle(config.model);
  const { bodyLength } = oracle.manifest;
  if (canaries > bodyLength)
    throw new CoveyError('USAGE_RANGE', `"canaries" expected at most ${bodyLength} for one-run, got ${canaries}`);
  const included = tossCoins(seed, canaries);
  const coordinates = canaryCoordinates(seed, canaries, bodyLength);
  const clock: SessionClock = { step: 0 };
  const sites = Array.from({ length: participants }, (_, i): Site => {
    const { train } = generateDigits(seed, i);
    const own = [...coordinates].filter((_, j) => j % participants === i && included[j]);
    return {
      data: appendRecords(train, blankRecords(train, own.length)),
      oracle: recordCanaryOracle(oracle, train.count, own, clock),
    };
  });
  const released = observeRun(options, config, sites, clock);
  const changes = decodeChanges(crypto, config, released);
  const matched = [...coordinates].map((k) => {
    let score = 0;
    changes.forEach(([body], t) => {
      score += (t % 2 === 0 ? 1 : -1) * (body?.[k] as number);
    });
    return score;
  });
  // Half of the canaries are in: the mean is the point of indifference, whatever the clip let through.
  const mean = matched.reduce((sum, score) => sum + score, 0) / canaries;
  const scores = matched.map((score) => score - mean);
  const audit = auditOneRun(scores, included, config.privacy.delta, SIGNIFICANCE);
  return report(options, released.claim, audit.epsilonLowerBound, { guesses: audit.guesses, correct: audit.correct }, [
    VIEW_ASSUMPTION,
    'canaries: records with a gradient of our choice, each added by a fair coin of its own',
    'guesses: four shares of the canaries, each tested at a quarter of the error',
  ]);
}

/** Unit participant, canary participants with random unit updates. @see Andrew et al. 2023 */
function attackOneShot(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = createDenseOracle(config.model);
  const { bodyLength, headLength } = oracle.manifest;
  const dimension = bodyLength + headLength;
  const directions = canaryDirections(seed, canaries, dimension);
  const real = Array.from({ length: participants }, (_, i): Site => ({ data: generateDigits(seed, i).train, oracle }));
  const like = (real[0] as Site).data;
  const canarySites = directions.map((direction) => ({
    data: blankRecords(like, 1),
    oracle: participantCanaryOracle(oracle, direction),
  }));
  const released = observeRun(options, config, [...real, ...canarySites], { step: 0 });
  const blocks = trainingBlocks(config, 1);
  const total = new Float64Array(dimension);
  released.sums.forEach((sum, t) => {
    const { clippingNorm, scale, rotationSeed } = (released.params[t] as SessionParams).encoding;
    const parts = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
    let at = 0;
    for (const part of parts) for (const value of part) total[at] = (total[at++] as number) + value;
  });
  const norm = Math.sqrt(total.reduce((sum, value) => sum + value * value, 0));
  const cosines = directions.map((direction) => dot(direction, total) / norm);
  const audit = auditOneShot(cosines, dimension, config.privacy.delta, SIGNIFICANCE);
  const evidence = {
    meanCosine: audit.fitted.mean,
    stddevCosine: audit.fitted.stddev,
    stddevUnobserved: audit.unobserved.stddev,
    epsilonEstimate: audit.epsilonEstimate,
  };
  return report(options, released.claim, audit.epsilonLowerBound, evidence, [
    VIEW_ASSUMPTION,
    'canaries: participants with random unit updates, in every step; cosines with the sum of all releases',
    'law: cosines are taken as independent and normal; the estimate beside the bound carries no confidence',
  ]);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** Real images with a wrong label: records that a model can only remember. */
function mislabelled(seed: number, organization: number, count: number): Dataset {
  const { train } = generateDigits((seed ^ 0x5eed) >>> 0, organization);
  const random = createRandom(seed, LABEL_STREAM + organization);
  const labels = train.labels
    .slice(0, count)
    .map((label) => (label + 1 + random.integer(train.classes - 1)) % train.classes);
  return createDataset(
    train.featureLength,
    train.classes,
    train.features.slice(0, labels.length * train.featureLength),
    labels,
  );
}

/** Sum over the records of their clipped gradients at a released model, in one vector. */
function clippedGradients(
  config: RunConfig,
  oracle: GradientOracle,
  models: ReleaseState['models'],
  data: Dataset,
): Float64Array[] {
  const body = Float64Array.from(models.body);
  const head = Float64Array.from(models.heads[0] ?? []);
  const [bodyGradient, headGradient] = [new Float64Array(body.length), new Float64Array(head.length)];
  return Array.from({ length: data.count }, (_, record) => {
    oracle.perRecordGradient(body, head, data, record, bodyGradient, headGradient);
    const gradient = Float64Array.from([...bodyGradient, ...headGradient]);
    const norm = Math.sqrt(dot(gradient, gradient));
    const factor = Math.min(1, config.training.clippingNorm / norm);
    return gradient.map((value) => value * factor);
  });
}

/** Unit record, mislabelled records: loss threshold and likelihood ratio of the released sums. */
function attackMembership(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = createDenseOracle(config.model);
  const share = (i: number): number => Math.floor(canaries / participants) + (i < canaries % participants ? 1 : 0);
  const own = Array.from({ length: participants }, (_, i) => generateDigits(seed, i).train);
  const wrong = own.map((_, i) => mislabelled(seed, i, share(i)));
  if (wrong.some((data, i) => data.count < share(i)))
    throw new CoveyError(
      'USAGE_RANGE',
      `"canaries" expected fewer for membership with ${participants} organizations, got ${canaries}`,
    );
  const coins = tossCoins(seed, canaries);
  const starts = wrong.map((_, i) => wrong.slice(0, i).reduce((sum, data) => sum + data.count, 0));
  const included = wrong.map((data, i) => coins.slice(starts[i], (starts[i] as number) + data.count));
  const subset = (data: Dataset, isIn: readonly boolean[]): Dataset => {
    const rows = isIn.flatMap((taken, j) => (taken ? [j] : []));
    const { featureLength } = data;
    const features = rows.flatMap((j) => [...data.features.subarray(j * featureLength, (j + 1) * featureLength)]);
    return createDataset(
      featureLength,
      data.classes,
      Float32Array.from(features),
      Uint8Array.from(rows, (j) => data.labels[j] as number),
    );
  };
  const sites = own.map((data, i) => ({
    data: appendRecords(data, subset(wrong[i] as Dataset, included[i] as boolean[])),
    oracle,
  }));
  const released = observeRun(options, config, sites, { step: 0 });
  const blocks = trainingBlocks(config, 1);
  const ratios = new Float64Array(canaries);
  const probability = config.training.samplingProbability;
  released.sums.forEach((sum, t) => {
    const models = released.models[t] as ReleaseState['models'];
    const { clippingNorm, scale, rotationSeed } = (released.params[t] as SessionParams).encoding;
    const decoded = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
    const rest = Float64Array.from(decoded.flatMap((part) => [...part]));
    const subtract = (gradient: Float64Array, weight: number): void => {
      for (let i = 0; i < rest.length; i++) rest[i] = (rest[i] as number) - weight * (gradient[i] as number);
    };
    for (const data of own) for (const g of clippedGradients(config, oracle, models, data)) subtract(g, probability);
    const templates = wrong.flatMap((data) => clippedGradients(config, oracle, models, data));
    // Every canary by half: what is left is plus half of the own term if it was in, and minus half if not.
    for (const g of templates) subtract(g, probability / 2);
    templates.forEach((g, j) => {
      ratios[j] = (ratios[j] as number) + dot(rest, g);
    });
  });
  const final = released.models[released.models.length - 1] as ReleaseState['models'];
  const first = released.models[0] as ReleaseState['models'];
  const lossesAt = (models: ReleaseState['models']): number[] =>
    wrong.flatMap((data) => [
      ...oracle.losses(Float64Array.from(models.body), Float64Array.from(models.heads[0] ?? []), data),
    ]);
  const [before, after] = [lossesAt(first), lossesAt(final)];
  const truth = included.flat();
  const { delta } = config.privacy;
  // Two scores, each at half of the error.
  const byLoss = auditMembership(
    before.map((loss, j) => loss - (after[j] as number)),
    truth,
    delta,
    SIGNIFICANCE / 2,
  );
  const byRatio = auditMembership([...ratios], truth, delta, SIGNIFICANCE / 2);
  const evidence = {
    lossBound: byLoss.epsilonLowerBound,
    lossTprAt1: truePositiveRateAt(byLoss.roc, 0.01),
    lossTprAt10: truePositiveRateAt(byLoss.roc, 0.1),
    ratioBound: byRatio.epsilonLowerBound,
    ratioTprAt1: truePositiveRateAt(byRatio.roc, 0.01),
    ratioTprAt10: truePositiveRateAt(byRatio.roc, 0.1),
  };
  return report(options, released.claim, Math.max(byLoss.epsilonLowerBound, byRatio.epsilonLowerBound), evidence, [
    VIEW_ASSUMPTION,
    'canaries: real images with wrong labels, each added by a fair coin',
    'independence: canaries of one run are taken as independent trials, which they only nearly are',
  ]);
}

function report(
  options: AttackOptions,
  claim: EpsilonReport,
  epsilonLowerBound: number,
  evidence: AttackReport['evidence'],
  assumptions: readonly string[],
): AttackReport {
  const { method, seed, canaries } = options;
  const verdict = epsilonLowerBound > claim.epsilon ? 'violated' : 'consistent';
  return {
    method,
    seed,
    canaries,
    claim,
    epsilonLowerBound,
    confidence: 1 - SIGNIFICANCE,
    verdict,
    evidence,
    assumptions,
  };
}

/** Configuration of the run that a method attacks: the digits scenario with one slot, at the unit of the method. */
function attackConfig(options: AttackOptions): RunConfig {
  const { canaries, idle = 0, method, participants, seed, steps, targetEpsilon } = options;
  const oneShot = method === 'one-shot';
  const cohort = participants + idle + (oneShot ? canaries : 0);
  const unit = oneShot ? 'participant' : 'record';
  const config = scenarioConfig('digits', { seed, steps, targetEpsilon, participants: cohort, unit });
  return unit === 'record' ? globalConfig(config) : { ...config, clusters: null };
}

/**
 * Attacks a run of the embedded digits scenario through the real pipeline - encoding, noise shares, sum, decoding - and
 * sets the lower bound beside the claim. @throws CoveyError USAGE_RANGE for a number of canaries that does not fit.
 */
export function runAttack(options: AttackOptions): AttackReport {
  const config = attackConfig(options);
  switch (options.method) {
    case 'one-run':
      return attackOneRun(options, config);
    case 'one-shot':
      return attackOneShot(options, config);
    case 'membership':
      return attackMembership(options, config);
  }
}
