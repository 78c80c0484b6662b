import { atomLoss } from './pld-grid.ts';
import { type LossPair, U } from './pld-pairs.ts';
import type { LossQuery } from './pld-plan.ts';

/** delta = P[l > e] - e^e Q[l > e] of one release, rounded up. */
function pairDelta(pair: LossPair, epsilon: number, out: Float64Array): number {
  if (pair.kind === 'atoms') {
    let sum = pair.infinity;
    for (let i = 0; i < pair.upper.length; i++) {
      const loss = atomLoss(pair, i);
      const over = loss - epsilon + 2 * pair.error + 4 * U * Math.abs(loss);
      if (over > 0) sum += (pair.upper[i] as number) * -Math.expm1(-over);
    }
    return Math.min(1, sum * (1 + 2 * pair.error));
  }
  pair.tails(epsilon, out);
  const upper = out[0] as number;
  const lower = out[1] as number;
  // Where Q has left the range of full precision, nothing is subtracted.
  const scaled = lower > 1e-290 ? Math.exp(epsilon + Math.log(lower)) : 0;
  const slack = 2 * (out[2] as number) + 8 * U * (1 + epsilon) + (pair.thresholdError ?? 0);
  return Math.min(1, Math.max(0, upper - Math.min(upper, scaled)) + slack * upper);
}

/** The query for one release of one pair, without a grid. */
export function queryPair(pair: LossPair, query: LossQuery): number {
  const out = new Float64Array(3);
  if ('epsilon' in query) return pairDelta(pair, query.epsilon, out);
  if (pairDelta(pair, 0, out) <= query.delta) return 0;
  let high = 1;
  while (pairDelta(pair, high, out) > query.delta) {
    high *= 2;
    if (high > 2 ** 40) return Number.POSITIVE_INFINITY;
  }
  let low = 0;
  while (high - low > 1e-15 * high) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (pairDelta(pair, middle, out) <= query.delta) high = middle;
    else low = middle;
  }
  return high;
}
