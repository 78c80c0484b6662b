import { eventKey } from './event-json.ts';
import type { DpEvent } from './events.ts';

/* When one event never costs more than another, read off their parameters: at every order, delta and relation at once. */

type Of<K extends DpEvent['kind']> = Extract<DpEvent, { kind: K }>;
type Comparison<K extends DpEvent['kind']> = (a: Of<K>, b: Of<K>) => boolean;

const noisier = (a: { readonly noiseMultiplier: number }, b: { readonly noiseMultiplier: number }): boolean =>
  a.noiseMultiplier >= b.noiseMultiplier;

/** Kinds with parameters that can only help: what is not named has to be the same. */
const COMPARISONS: { readonly [K in DpEvent['kind']]?: Comparison<K> } = {
  gaussian: noisier,
  // More honest shares of the same width; widths must not differ, for the distance tau of sums depends on them.
  discreteGaussian: (a, b) => a.shares >= b.shares && isSameBut(a, b, { shares: b.shares }),
  skellam: (a, b) => a.variance >= b.variance && isSameBut(a, b, { variance: b.variance }),
  laplace: (a, b) => noisier(a, b) && a.symmetric === b.symmetric,
  exponentialMechanism: (a, b) => a.epsilon <= b.epsilon && a.monotone === b.monotone,
  permuteAndFlip: (a, b) => a.epsilon <= b.epsilon,
  zCdp: (a, b) => a.rho <= b.rho && (a.xi ?? 0) <= (b.xi ?? 0),
  approximateDp: (a, b) => a.epsilon <= b.epsilon && a.delta <= b.delta,
  poissonSampled: (a, b) => a.probability <= b.probability && isNeverDearer(a.event, b.event),
  selfComposed: (a, b) => a.count <= b.count && isNeverDearer(a.event, b.event),
  composed: (a, b) => areNeverDearer(a.events, b.events),
};

/** True if `a` with some fields of `b` is `b`. */
function isSameBut<E extends DpEvent>(a: E, b: E, fields: Partial<E>): boolean {
  return eventKey({ ...a, ...fields }) === eventKey(b);
}

/**
 * True if the first event costs at most as much as the second, because it is the same mechanism with more noise, fewer
 * repetitions or a lower rate. False proves nothing.
 */
export function isNeverDearer(a: DpEvent, b: DpEvent): boolean {
  if (a.kind !== b.kind) return false;
  const compare = COMPARISONS[a.kind] as Comparison<DpEvent['kind']> | undefined;
  return compare === undefined ? eventKey(a) === eventKey(b) : compare(a as never, b as never);
}

/** The same for lists: every event of the first has one at the same place of the second. An empty list costs nothing. */
export function areNeverDearer(a: readonly DpEvent[], b: readonly DpEvent[]): boolean {
  if (a.length === 0) return true;
  return a.length === b.length && a.every((event, i) => isNeverDearer(event, b[i] as DpEvent));
}
