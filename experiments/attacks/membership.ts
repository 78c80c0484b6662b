import { CoveyError } from '../../protocol/errors.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { auditMembership, truePositiveRateAt } from '../../src/audit/empirical/membership.ts';
import { auditOneRun } from '../../src/audit/empirical/one-run.ts';
import { type Dataset, selectRecords } from '../../src/data/dataset.ts';
import { digitCanaries, withDigitCanaries } from '../../src/data/digit-canaries.ts';
import { generateDigits } from '../../src/data/digits.ts';
import type { GradientOracle, Model } from '../../src/learning/oracle.ts';
import { createEncoder } from '../../src/privacy/encode.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { trainingBlocks } from '../../src/run/plan.ts';
import type { ReleaseState } from '../../src/run/release.ts';
import { tossCoins } from '../canaries.ts';
import {
  type AttackOptions,
  type AttackReport,
  oracleOf,
  percent,
  report,
  SIGNIFICANCE,
  VIEW_ASSUMPTION,
} from './attack-report.ts';
import { dot, observeRun, type Released } from './observe.ts';

/** An organization as the attacker knows it: everything but which canaries are in. */
export interface Suspect {
  readonly own: Dataset;
  readonly canaries: Dataset;
  /** The truth, which decides no score. */
  readonly included: readonly boolean[];
  /** Training step from which on it no longer took part; null if it stayed. */
  readonly lostAt: number | null;
}

const modelAt = (models: ReleaseState['models'], slot: number): Model => ({
  body: Float64Array.from(models.body),
  head: Float64Array.from(models.heads[slot] ?? []),
});

/** The slot whose model fits the organization's own records best: what anybody would guess that it trains. */
function likelySlot(oracle: GradientOracle, models: ReleaseState['models'], data: Dataset): number {
  const means = models.heads.map((_, slot) => {
    const { body, head } = modelAt(models, slot);
    return oracle.losses(body, head, data).reduce((sum, loss) => sum + loss, 0);
  });
  return means.indexOf(Math.min(...means));
}

/** Clipped gradients of the records at a released model, one after the other. Shapes: body and head in one vector. */
function clippedGradients(oracle: GradientOracle, clippingNorm: number, model: Model, data: Dataset): Float64Array[] {
  const bodyGradient = new Float64Array(model.body.length);
  const headGradient = new Float64Array(model.head.length);
  return Array.from({ length: data.count }, (_, record) => {
    oracle.perRecordGradient(model.body, model.head, data, record, bodyGradient, headGradient);
    const gradient = new Float64Array(bodyGradient.length + headGradient.length);
    gradient.set(bodyGradient);
    gradient.set(headGradient, bodyGradient.length);
    const norm = Math.sqrt(dot(gradient, gradient));
    const factor = norm > clippingNorm ? clippingNorm / norm : 1;
    for (let i = 0; i < gradient.length; i++) gradient[i] = (gradient[i] as number) * factor;
    return gradient;
  });
}

/** Scores of all canaries, organization after organization; the larger, the surer "was in". */
interface Scores {
  /** How much the loss of the canary fell over the run. */
  readonly losses: readonly number[];
  /** Released sums, less what the other records add on average, projected on the canary's clipped gradient. */
  readonly ratios: readonly number[];
}

/** Judges every canary by released models and sums alone. */
function scoreCanaries(
  options: Pick<AttackOptions, 'createOracle' | 'crypto'>,
  config: RunConfig,
  { models, orders, params, sums }: Released,
  suspects: readonly Suspect[],
): Scores {
  const { crypto } = options;
  const oracle = oracleOf(options, config.model);
  const [first, final] = [models[0], models[models.length - 1]] as [ReleaseState['models'], ReleaseState['models']];
  const slots = suspects.map(({ own }) => likelySlot(oracle, final, own));
  const losses = suspects.flatMap(({ canaries }, i) => {
    const lossesAt = ({ body, head }: Model): Float64Array => oracle.losses(body, head, canaries);
    const before = lossesAt(modelAt(first, Math.min(slots[i] as number, first.heads.length - 1)));
    const after = lossesAt(modelAt(final, slots[i] as number));
    return [...before].map((loss, j) => loss - (after[j] as number));
  });
  const ratios = suspects.map(({ canaries }) => new Float64Array(canaries.count));
  const { clippingNorm, samplingProbability: probability } = config.training;
  orders.forEach(({ models: at, session }, t) => {
    // Before the slots of the final models exist nobody can tell who trains which.
    if (session.kind !== 'train' || at.heads.length !== final.heads.length) return;
    const { encoding } = params[t] as SessionParams;
    const blocks = trainingBlocks(config, at.heads.length);
    const [body, ...heads] = createEncoder(crypto, { blocks, ...encoding }).decode(sums[t] as Int32Array) as [
      Float64Array,
      ...Float64Array[],
    ];
    const takeOff = (slot: number, gradient: Float64Array, weight: number): void => {
      const head = heads[slot] as Float64Array;
      for (let i = 0; i < body.length; i++) body[i] = (body[i] as number) - weight * (gradient[i] as number);
      for (let i = 0; i < head.length; i++)
        head[i] = (head[i] as number) - weight * (gradient[body.length + i] as number);
    };
    const present = suspects.map(({ lostAt }) => lostAt === null || session.step < lostAt);
    const templates = suspects.map(({ own, canaries }, i) => {
      if (!present[i]) return [];
      const slot = slots[i] as number;
      const model = modelAt(at, slot);
      for (const g of clippedGradients(oracle, clippingNorm, model, own)) takeOff(slot, g, probability);
      return clippedGradients(oracle, clippingNorm, model, canaries);
    });
    // Every canary by half: what is left is plus half of the own term if it was in, and minus half if not.
    templates.forEach((gradients, i) => {
      for (const g of gradients) takeOff(slots[i] as number, g, probability / 2);
    });
    templates.forEach((gradients, i) => {
      gradients.forEach((g, j) => {
        const own = ratios[i] as Float64Array;
        const head = heads[slots[i] as number] as Float64Array;
        own[j] = (own[j] as number) + dot(body, g) + dot(head, g.subarray(body.length));
      });
    });
  });
  return { losses, ratios: ratios.flatMap((values) => [...values]) };
}

/** Turns scores into a bound: rates of both scores, and guesses by the sums as in a one-run audit, which need no independence. */
export function judgeMembership(
  options: Pick<AttackOptions, 'createOracle' | 'crypto' | 'seed'> & { readonly run?: string },
  config: RunConfig,
  released: Released,
  suspects: readonly Suspect[],
): AttackReport {
  const { losses, ratios } = scoreCanaries(options, config, released, suspects);
  const truth = suspects.flatMap(({ included }) => included);
  const { delta } = config.privacy;
  // Three bounds, each at a third of the error.
  const byLoss = auditMembership(losses, truth, delta, SIGNIFICANCE / 3);
  const byRatio = auditMembership(ratios, truth, delta, SIGNIFICANCE / 3);
  const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
  const guessed = auditOneRun(
    ratios.map((ratio) => ratio - mean),
    truth,
    delta,
    SIGNIFICANCE / 3,
  );
  const evidence = {
    canariesIn: truth.filter((isIn) => isIn).length,
    lossBound: byLoss.epsilonLowerBound,
    lossTprAt1: truePositiveRateAt(byLoss.roc, 0.01),
    lossTprAt10: truePositiveRateAt(byLoss.roc, 0.1),
    ratioBound: byRatio.epsilonLowerBound,
    ratioTprAt1: truePositiveRateAt(byRatio.roc, 0.01),
    ratioTprAt10: truePositiveRateAt(byRatio.roc, 0.1),
    guesses: guessed.guesses,
    correct: guessed.correct,
    guessBound: guessed.epsilonLowerBound,
  };
  const { run, seed } = options;
  const named = (score: string, at1: number, at10: number): string =>
    `${score} names ${percent(at1)} of those that were in at 1 % false alarms, ${percent(at10)} at 10 %`;
  return report({
    method: 'membership',
    seed,
    canaries: truth.length,
    ...(run === undefined ? {} : { run }),
    claim: released.claim,
    epsilonLowerBound: Math.max(evidence.lossBound, evidence.ratioBound, evidence.guessBound),
    tried: `${truth.length} mislabelled digits, each put among the training records by a fair coin (${evidence.canariesIn} were); two scores: how far its loss fell over the run, and the released sums projected on its gradient`,
    found: `${named('the loss', evidence.lossTprAt1, evidence.lossTprAt10)}; ${named('the projection', evidence.ratioTprAt1, evidence.ratioTprAt10)} (blind guessing: 1 % and 10 %); of the ${guessed.guesses} surest guesses by the projection ${guessed.correct} are right`,
    evidence,
    assumptions: [
      VIEW_ASSUMPTION,
      'slots: each organization is taken to train the slot that fits its other records best',
      'rates: canaries of one run are taken as independent trials, which they only nearly are; the count of guesses needs no such thing',
    ],
  });
}

/** Unit record, mislabelled records in a simulated run: loss threshold and likelihood ratio of the released sums. */
export function attackMembership(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, participants, seed } = options;
  const coins = tossCoins(seed, canaries);
  let next = 0;
  const suspects = Array.from({ length: participants }, (_, i): Suspect => {
    const share = Math.floor(canaries / participants) + (i < canaries % participants ? 1 : 0);
    const all = digitCanaries(seed, i);
    if (share > all.count)
      throw new CoveyError(
        'USAGE_RANGE',
        `"canaries" expected at most ${all.count} for each organization with membership, got ${share}`,
      );
    const included = coins.slice(next, next + share);
    next += share;
    const rows = Uint32Array.from({ length: share }, (__, j) => j);
    return { own: generateDigits(seed, i).train, canaries: selectRecords(all, rows), included, lostAt: null };
  });
  const oracle = oracleOf(options, config.model);
  const sites = suspects.map(({ own, included }, i) => {
    const rows = Uint32Array.from(included.flatMap((isIn, j) => (isIn ? [j] : [])));
    return { data: withDigitCanaries(own, seed, i, rows), oracle };
  });
  return judgeMembership(options, config, observeRun(options, config, sites, { step: 0 }), suspects);
}
