import { selectRecords } from '../data/dataset.ts';
import type { DataRandom } from '../data/random.ts';
import type { LocalContext, LocalUpdate, LocalVectors } from './algorithm.ts';

/** A curriculum over a participant's own records; unit `participant`, where all of it stays inside one clipped update. */
export interface Curriculum {
  /** Whose loss says what is easy: the released model, the participant's own last one, or both. */
  readonly expert: 'global' | 'local' | 'hybrid';
  /** How the share of records in use grows over the steps. */
  readonly pacing: 'linear' | 'step' | 'exponential' | 'log';
  /** `easy` first is the curriculum; `hard` first and `random` are its controls. */
  readonly order: 'easy' | 'hard' | 'random';
  /** Share of the records in the first step, and share of the steps after which all are in use; in (0, 1]. */
  readonly startShare: number;
  readonly fullAt: number;
}

/**
 * A curriculum at unit `record`: a record joins a step by its own loss under the released model against a public threshold
 * that the schedule alone moves. Ranks and quantiles of own losses, and experts trained on own records, would make a record's
 * term depend on the others. `easy`: losses up to the threshold, `hard`: from it on, `random` (the control): a draw with the
 * threshold as its probability. Units: `from` and `to` as losses, or as shares in (0, 1]; all records after `fullAt`.
 * @see privacy section 1
 */
export interface LossThreshold {
  readonly order: Curriculum['order'];
  readonly pacing: Curriculum['pacing'];
  readonly from: number;
  readonly to: number;
  readonly fullAt: number;
}

/** The threshold after `progress` of the steps; null once all records are in use. */
export function thresholdAt({ fullAt, from, pacing, to }: LossThreshold, progress: number): number | null {
  if (progress >= fullAt) return null;
  const pace = paceShare({ expert: 'global', order: 'easy', startShare: 0, pacing, fullAt }, progress);
  return from + (to - from) * pace;
}

/** True if a record of this loss joins the step; a loss that is not a number does not. */
export function isWithin({ order }: LossThreshold, threshold: number, loss: number): boolean {
  return order === 'hard' ? loss >= threshold : loss <= threshold;
}

/**
 * Share of the records in use after `progress` of the steps, from `startShare` to 1 at `fullAt`.
 * @see Bengio et al. 2009; Wu, Dyer, Neyshabur 2021, section 3 (pacing functions)
 */
export function paceShare({ pacing, startShare, fullAt }: Curriculum, progress: number): number {
  const x = progress / fullAt;
  if (x >= 1) return 1;
  const left = 1 - startShare;
  if (pacing === 'linear') return startShare + left * x;
  // Three plateaus, the last of which begins at two thirds.
  if (pacing === 'step') return startShare + (left * Math.floor(3 * x)) / 3;
  // Slow, then fast; and fast, then slow. Both pass the ends exactly.
  if (pacing === 'exponential') return startShare + (left * Math.expm1(5 * x)) / Math.expm1(5);
  return startShare + (left * Math.log1p(9 * x)) / Math.log(10);
}

/**
 * Records that a step uses, ascending: the lowest or highest scores, or a random draw of as many. At least one.
 * Shapes: `scores` one for each record. Ties go to the lower record.
 */
export function pacedRecords(
  curriculum: Curriculum,
  scores: Float64Array,
  progress: number,
  random: DataRandom,
): Uint32Array {
  const order = Uint32Array.from(scores, (_, i) => i);
  const count = Math.max(1, Math.round(paceShare(curriculum, progress) * scores.length));
  if (curriculum.order === 'random') random.shuffle(order);
  else {
    const sign = curriculum.order === 'easy' ? 1 : -1;
    order.sort((a, b) => sign * ((scores[a] as number) - (scores[b] as number)) || a - b);
  }
  return order.slice(0, Math.min(count, scores.length)).sort();
}

/** Losses of the own records under the expert; those of the released model before there is an own one. */
function expertScores(curriculum: Curriculum, { oracle, data, start, local }: LocalContext): Float64Array {
  const released = oracle.losses(start.body, start.head, data);
  const { expertBody, expertHead } = local;
  if (curriculum.expert === 'global' || expertBody === undefined || expertHead === undefined) return released;
  const own = oracle.losses(expertBody, expertHead, data);
  return curriculum.expert === 'local' ? own : own.map((loss, i) => (loss + (released[i] as number)) / 2);
}

/** The context of any algorithm with the records of this step alone. */
export function pacedContext(curriculum: Curriculum, context: LocalContext): LocalContext {
  const { data, random, step, steps } = context;
  const records = pacedRecords(curriculum, expertScores(curriculum, context), step / steps, random);
  return { ...context, data: selectRecords(data, records) };
}

/** What the expert of the next step needs: where the own training ended. */
export function keepExpert({ start }: LocalContext, { body, head, local }: LocalUpdate): LocalVectors {
  const end = (from: Float64Array, descent: Float64Array): Float64Array =>
    from.map((value, i) => value - (descent[i] ?? 0));
  return { ...local, expertBody: end(start.body, body), expertHead: local?.['head'] ?? end(start.head, head) };
}
