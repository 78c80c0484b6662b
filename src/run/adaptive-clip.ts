import { readU32le, u32le } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { contributionBound } from '../privacy/rounding.ts';
import type { AdaptiveClipConfig, RunConfig } from './config.ts';

/*
 * The clipping norm follows a quantile of the norms of the updates (Andrew, Thakkar, McMahan, Ramaswamy 2021; privacy F20).
 * Each member adds one more coordinate to its vector, +k if its update is not longer than C and -k if it is: b = 1[norm <= C] - 1/2
 * in units of 2k. All coordinates have the same noise, and k is chosen so that it is `countNoise` members on the count.
 *
 * Clip and scale change together and their product stays the same double: in integer units sensitivity, noise and k are
 * constants of the run, so no charge depends on C and none on the rounding of floats. Noise in real units is
 * proportional to C. Whatever C is, what a participant moves is bounded in integers.
 */

/** What the members told about their norms in the training steps so far, oldest first: all that C depends on. */
export type ClipHistory = readonly ClipCount[];

/** The released count of one step, of all groups. Units: `sum` in integer units, k for each member. */
export interface ClipCount {
  readonly sum: number;
  readonly survivors: number;
}

/** Name of the unrotated coordinate: it says k, so that the signed parameters alone give the sensitivity. */
export function clipSegment(countUnits: number): { readonly segment: string; readonly length: number } {
  return { segment: `clip-count/${countUnits}`, length: 1 };
}

/** What a member adds to or takes off the count, as the parameters say it; 0 without a count. Units: integer units. */
export function clipCount({ layout }: Pick<SessionParams, 'layout'>): number {
  return Number(/^clip-count\/(\d+)$/.exec(layout.at(-1)?.segment ?? '')?.[1] ?? 0);
}

/** Largest clip that a run may come to. */
export function largestClip({ training }: RunConfig): number {
  const { adaptiveClip, clippingNorm } = training;
  if (adaptiveClip === undefined) return clippingNorm;
  return adaptiveClip.maxNorm ?? RANGE * clippingNorm;
}

/** C stays within this factor of the first one, so that the scale stays a sensible number. */
const RANGE = 2 ** 16;

/**
 * Noise of a step from the noise multiplier of the updates z_D: k = z_D D / (2 countNoise), rounded, then the whole vector
 * is a sum with sensitivity S = sqrt(D^2 + k^2) and noise z_D D, which is z = (z_D^-2 + (2 countNoise)^-2)^(-1/2) times S.
 * Units: D (`updateSensitivity`) and k in integer units. @see privacy F20
 */
export function clipCountUnits({ countNoise }: AdaptiveClipConfig, noiseStddev: number): number {
  return Math.max(1, Math.round(noiseStddev / (2 * countNoise)));
}

/**
 * l2 norm that a rounded update and its count keep together, never below the exact root. Units: integer units.
 * @throws CoveyError PRIVACY_BUDGET for a count that no noise on the updates makes room for (its square would pass 2^53).
 */
export function jointSensitivity(scaledNorm: number, dimension: number, countUnits: number): number {
  const { sensitivity, squaredNorm } = contributionBound(scaledNorm, dimension);
  if (countUnits === 0) return sensitivity;
  const squared = squaredNorm + countUnits * countUnits;
  if (!(squared < 2 ** 53))
    throw new CoveyError(
      'PRIVACY_BUDGET',
      `"training.adaptiveClip.countNoise" expected more noise: the count alone uses up the budget (${countUnits} units)`,
    );
  const root = Math.sqrt(squared);
  return root * root <= squared && !Number.isInteger(root) ? root * (1 + 2 ** -52) : root;
}

/** Halvings of the exponent before the series, so that 18 terms are exact to the last bits. */
const HALVINGS = 6;

/** e^x by sums and products only: the same bits on every engine, which `Math.exp` does not promise. For |x| <= 16. */
export function portableExp(x: number): number {
  const reduced = x / 2 ** HALVINGS;
  let term = 1;
  let value = 1;
  for (let k = 1; k <= 18; k++) {
    term = (term * reduced) / k;
    value += term;
  }
  for (let i = 0; i < HALVINGS; i++) value *= value;
  return value;
}

/** Clip and scale of a step. Units: `scale` in integer units per 1.0. */
export interface ClipScale {
  readonly clippingNorm: number;
  readonly scale: number;
}

/** Every second or third number does; this many in a row without one do not happen. */
const MAX_NUDGES = 256;

/** Nearest clip not above `wanted` (to 2^-23) whose product with its scale is exactly the run's. */
function pairOf(wanted: number, product: number): ClipScale {
  let clippingNorm = Math.fround(wanted);
  for (let i = 0; i < MAX_NUDGES; i++) {
    const scale = product / clippingNorm;
    if (clippingNorm <= wanted && scale * clippingNorm === product) return { clippingNorm, scale };
    clippingNorm = Math.fround(clippingNorm * (1 - 2 ** -23));
  }
  throw new CoveyError(
    'INTERNAL_INVARIANT',
    `"clip" expected a number that divides ${product}, got none near ${wanted}`,
  );
}

/** C <- C exp(-eta (fraction - quantile)) for every released count: what everybody computes from releases. */
export function followClip(config: RunConfig, history: ClipHistory, countUnits: number): ClipScale {
  const { adaptiveClip, clippingNorm } = config.training;
  const first = { clippingNorm, scale: config.encoding.scale };
  if (adaptiveClip === undefined) return first;
  const { quantile, learningRate } = adaptiveClip;
  const product = first.scale * clippingNorm;
  return history.reduce(({ clippingNorm: before }, { sum, survivors }) => {
    const fraction = Math.min(1, Math.max(0, sum / (2 * countUnits * survivors) + 0.5));
    const moved = before * portableExp(-learningRate * (fraction - quantile));
    return pairOf(Math.min(largestClip(config), Math.max(clippingNorm / RANGE, moved)), product);
  }, first);
}

/** Training steps that have released before a session. */
export function clipSteps(session: { readonly kind: string; readonly step: number }): number {
  return session.kind === 'metrics' ? session.step + 1 : session.step;
}

/** Eight bytes a step: the count as u32 of its two's complement, the survivors. */
export function encodeClipHistory(history: ClipHistory): Uint8Array {
  const bytes = new Uint8Array(8 * history.length);
  history.forEach(({ sum, survivors }, i) => {
    if (sum !== (sum | 0)) throw new CoveyError('INTERNAL_INVARIANT', 'a released count does not fit 32 bits');
    bytes.set(u32le(sum >>> 0), 8 * i);
    bytes.set(u32le(survivors), 8 * i + 4);
  });
  return bytes;
}

/** @throws CoveyError CODEC_TRUNCATED, PRIVACY_POLICY for a number of steps that is not the schedule's. */
export function decodeClipHistory(bytes: Uint8Array, steps: number): ClipCount[] {
  if (bytes.length % 8 !== 0)
    throw new CoveyError('CODEC_TRUNCATED', `"clip" expected a multiple of 8 bytes, got ${bytes.length}`);
  if (bytes.length !== 8 * steps)
    throw new CoveyError('PRIVACY_POLICY', `"clip" expected counts of ${steps} steps, got ${bytes.length / 8}`, {
      field: 'clip',
    });
  return Array.from({ length: steps }, (_, i) => {
    const survivors = readU32le(bytes, 8 * i + 4);
    if (survivors === 0) throw new CoveyError('CODEC_TYPE', '"clip" expected survivors in every step');
    return { sum: readU32le(bytes, 8 * i) | 0, survivors };
  });
}

/**
 * Checks that a history goes on where the last one that was seen ended: no released count is ever changed.
 * @throws CoveyError PRIVACY_POLICY
 */
export function requireSameHistory(seen: ClipHistory, told: ClipHistory): void {
  const same = (i: number): boolean => seen[i]?.sum === told[i]?.sum && seen[i]?.survivors === told[i]?.survivors;
  const at = Array.from({ length: Math.min(seen.length, told.length) }, (_, i) => i).find((i) => !same(i));
  if (at !== undefined || told.length < seen.length) {
    const what = at === undefined ? `${seen.length} steps` : `the count of step ${at} that was told before`;
    throw new CoveyError('PRIVACY_POLICY', `"clip" expected ${what}, got another history`, { field: 'clip' });
  }
}
