import type { Algorithm } from '../algorithm.ts';
import { epochsOf } from '../local-steps.ts';
import { epochsUpdate, WHOLE_UPDATE } from './fedavg.ts';

/** Share of the cohort's clipping norms below which the noisy denominator is not trusted. */
const FLOOR = 0.01;

/**
 * q-FedAvg (Li 2020): updates weigh as the q-th power of the own loss, and the server divides by the sum of the bounds on
 * their curvature. With L = 1 / eta and D = L (w - w_k): Delta = F^q D, h = q F^(q-1) ||D||^2 + L F^q; w <- w - sum Delta /
 * sum h. Both are sent in one vector, Delta and h, under one clip; the noisy denominator is floored. The loss is the own,
 * at the released model, capped by `lossBound`.
 */
export const qFedAvg: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'q-fedavg',
    title: 'q-FedAvg',
    source: 'Li et al. 2020',
    shared: 'weighted update and its denominator, clipped jointly',
    local: 'loss',
    recordLevel: {
      kind: 'local-noise-only',
      reason: 'the weight is a power of the own loss, which depends on all raw records',
    },
    options: {
      q: { what: 'power of the loss: 0 is FedAvg, large is the worst participant', least: 0, most: 20, fallback: 1 },
      lossBound: { what: 'largest loss that counts', least: 1e-6, most: 1_000, fallback: 5 },
    },
    slots: 'none',
  },
  shares: 'model',
  plainSteps: 'it takes the inverse of the step size for a bound on the curvature',
  extra: () => ({
    blocks: [{ segment: 'denominator', realLength: 1, length: 1, rotated: false }],
    released: [],
  }),
  update(context) {
    const { oracle, start, data, options } = context;
    const { q = 0, lossBound = 1 } = options;
    const { body, head } = epochsUpdate(context);
    const lipschitz = 1 / epochsOf(context).stepSize;
    const losses = oracle.losses(start.body, start.head, data);
    const mean = losses.reduce((sum, loss) => sum + Math.min(loss, lossBound), 0) / Math.max(1, data.count);
    // A loss of zero would make the curvature of q < 1 infinite.
    const loss = Math.max(mean, 1e-10);
    let squares = 0;
    for (const group of [body, head]) for (const value of group) squares += (lipschitz * value) ** 2;
    const weight = loss ** q;
    const curvature = q * loss ** (q - 1) * squares + lipschitz * weight;
    // In units of L, so that one scale serves both parts of the vector.
    return {
      body: body.map((value) => weight * value),
      head: head.map((value) => weight * value),
      extra: [Float64Array.of(curvature / lipschitz)],
    };
  },
  server({ body, heads, extra }, { clippingNorm, participants }) {
    const denominator = Math.max(extra[0]?.[0] ?? 0, FLOOR * clippingNorm * participants);
    const mean = (sum: Float64Array): Float64Array => sum.map((value) => value / denominator);
    return { body: mean(body), heads: heads.map(mean), extra: [] };
  },
};
