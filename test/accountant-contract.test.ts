import { describe, expect, it } from 'vitest';
import { isCoveyError } from '../protocol/errors.ts';
import {
  type Accountant,
  gdpAccountant,
  pldAccountant,
  rdpAccountant,
  restoreAccountant,
  zcdpAccountant,
} from '../src/privacy/accountant.ts';
import { eventFromJson, eventKey, eventToJson } from '../src/privacy/event-json.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { rdpCurve } from '../src/privacy/rdp-curve.ts';
import { zcdpCost } from '../src/privacy/zcdp.ts';

const gaussian = (noiseMultiplier: number): DpEvent => ({ kind: 'gaussian', noiseMultiplier });
const sum = (shareVariance: number, shares = 6): DpEvent => ({
  kind: 'discreteGaussian',
  shares,
  shareVariance,
  sensitivity: 200,
  dimension: 4096,
  symmetric: true,
});
const skellam = (variance: number): DpEvent => ({
  kind: 'skellam',
  variance,
  sensitivity: 200,
  dimension: 4096,
  symmetric: true,
});
const laplace = (noiseMultiplier: number): DpEvent => ({ kind: 'laplace', noiseMultiplier, symmetric: true });
const sampled = (probability: number, event: DpEvent): DpEvent => ({ kind: 'poissonSampled', probability, event });
const fixedSize = (sampleSize: number, event: DpEvent): DpEvent => ({
  kind: 'fixedSizeSampled',
  populationSize: 1000,
  sampleSize,
  event,
});
const choice = (epsilon: number): DpEvent => ({ kind: 'exponentialMechanism', epsilon, monotone: true });
const flip = (epsilon: number): DpEvent => ({ kind: 'permuteAndFlip', epsilon });

/** Each entry: the same mechanism with ever more noise, or ever less sampling, or ever less epsilon. */
type Family = readonly [name: string, weaker: readonly DpEvent[]];
const NOISE: readonly Family[] = [
  ['gaussian', [0.5, 1, 3, 30].map(gaussian)],
  ['discreteGaussian', [900, 3600, 90_000].map((variance) => sum(variance))],
  ['discreteGaussian shares', [2, 3, 6, 50].map((shares) => sum(4000, shares))],
  ['laplace', [0.5, 1, 3, 30].map(laplace)],
  ['exponentialMechanism', [2, 0.5, 0.1, 0.004].map(choice)],
  ['permuteAndFlip', [2, 0.5, 0.1].map(flip)],
  ['zCdp', [1, 0.1, 0.001].map((rho): DpEvent => ({ kind: 'zCdp', rho }))],
];
const SAMPLING: readonly Family[] = [
  ['skellam', [20_000, 90_000, 9e6].map(skellam)],
  ['sampled gaussian', [1, 0.5, 0.1, 0.001].map((q) => sampled(q, gaussian(1)))],
  ['sampled discreteGaussian', [1, 0.5, 0.1, 0.001].map((q) => sampled(q, sum(4000)))],
  ['sampled skellam', [1, 0.5, 0.1].map((q) => sampled(q, skellam(90_000)))],
  ['sampled laplace', [1, 0.5, 0.1].map((q) => sampled(q, laplace(2)))],
  ['sampled choice', [1, 0.5, 0.1].map((q) => sampled(q, choice(0.5)))],
];
const UNSUPPORTED: readonly DpEvent[] = [
  { kind: 'unsupported', reason: 'nobody knows' },
  sampled(0.1, sampled(0.1, gaussian(1))),
  sampled(0.1, fixedSize(10, gaussian(1))),
  fixedSize(10, laplace(1)),
];

function refusal(run: () => unknown): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return isCoveyError(error) ? error.code : String(error);
  }
}

function describeAccountant(
  name: string,
  make: () => Accountant,
  families: readonly Family[],
  refused: readonly DpEvent[],
  // Grids are chosen per query, so that both ways agree to their over-estimates of epsilon only.
  gridded = false,
): void {
  const events = families.map(([, weaker]) => weaker[1] as DpEvent);
  describe(`accountant contract: ${name}`, () => {
    for (const [family, weaker] of families) {
      it(`${family}: n at once is n one by one`, () => {
        const event = weaker[1] as DpEvent;
        let single = make();
        for (let i = 0; i < 7; i++) single = single.compose(event);
        const wrapped = make().compose({ kind: 'selfComposed', count: 7, event });
        const listed = make().compose({ kind: 'composed', events: Array.from({ length: 7 }, () => event) });
        const atOnce = make().compose(event, 7);
        const repeatedList = make().compose({ kind: 'composed', events: [event] }, 7);
        for (const other of [wrapped, listed, atOnce, repeatedList]) {
          expect(other.epsilon(1e-6)).toBe(single.epsilon(1e-6));
          expect(other.delta(1)).toBe(single.delta(1));
          expect(other.state()).toEqual(single.state());
        }
        expect(single.epsilon(1e-6)).toBeGreaterThan(make().compose(event).epsilon(1e-6));
      });

      it(`${family}: less is revealed by more noise or less sampling`, () => {
        const epsilons = weaker.map((event) => make().compose(event, 5).epsilon(1e-6));
        for (let i = 1; i < epsilons.length; i++) expect(epsilons[i]).toBeLessThan(epsilons[i - 1] as number);
      });

      it(`${family}: more steps and smaller deltas cost more, down to 1e-30`, () => {
        const event = weaker[1] as DpEvent;
        const steps = [1, 2, 10, 1000].map((count) => make().compose(event, count).epsilon(1e-5));
        for (let i = 1; i < steps.length; i++) expect(steps[i]).toBeGreaterThan(steps[i - 1] as number);
        const composed = make().compose(event, 10);
        const deltas = [1e-2, 1e-5, 1e-10, 1e-20, 1e-30].map((delta) => composed.epsilon(delta));
        for (let i = 1; i < deltas.length; i++) {
          // Bounded losses end at their sum.
          if (gridded) expect(deltas[i]).toBeGreaterThanOrEqual(deltas[i - 1] as number);
          else expect(deltas[i]).toBeGreaterThan(deltas[i - 1] as number);
          expect(deltas[i]).toBeLessThan(Number.POSITIVE_INFINITY);
        }
      });

      it(`${family}: delta(epsilon(delta)) is delta`, () => {
        const composed = make().compose(weaker[1] as DpEvent, 10);
        for (const delta of [1e-3, 1e-6, 1e-12, 1e-30]) {
          const epsilon = composed.epsilon(delta);
          const back = composed.delta(epsilon);
          if (gridded)
            expect(Math.abs(composed.epsilon(Math.min(Math.max(back, 1e-300), 0.9)) - epsilon)).toBeLessThan(
              5e-4 * epsilon,
            );
          else expect(Math.abs(Math.log(back / delta))).toBeLessThan(1e-6);
        }
      });
    }

    it('does not depend on the order of composition and leaves its input alone', () => {
      const empty = make();
      const forth = events.reduce((accountant, event) => accountant.compose(event, 3), empty);
      const back = [...events].reverse().reduce((accountant, event) => accountant.compose(event, 3), empty);
      expect(back.epsilon(1e-5)).toBe(forth.epsilon(1e-5));
      expect(empty.epsilon(1e-5)).toBe(0);
      expect(empty.delta(0)).toBe(0);
    });

    it('comes back from its state', () => {
      const composed = events.reduce((accountant, event) => accountant.compose(event, 2), make());
      const restored = restoreAccountant(JSON.parse(JSON.stringify(composed.state())));
      expect(restored.name).toBe(composed.name);
      expect(restored.state()).toEqual(composed.state());
      expect(restored.epsilon(1e-7)).toBe(composed.epsilon(1e-7));
    });

    it('says before it happens that a budget would be exceeded', () => {
      const event = events[0] as DpEvent;
      const five = make().compose(event, 5);
      const six = make().compose(event, 6).epsilon(1e-5);
      expect(five.wouldExceed({ epsilon: six, delta: 1e-5 }, event)).toBe(false);
      expect(five.wouldExceed({ epsilon: six * (1 - 1e-12), delta: 1e-5 }, event)).toBe(true);
      expect(five.wouldExceed({ epsilon: Number.NaN, delta: 1e-5 }, event)).toBe(true);
      expect(make().wouldExceed({ epsilon: 1e9, delta: 1e-5 }, { kind: 'nonPrivate' })).toBe(true);
    });

    it('refuses what it cannot bound', () => {
      for (const event of [...UNSUPPORTED, ...refused]) {
        expect(make().supports(event), eventKey(event)).toBe(false);
        expect(refusal(() => make().compose(event))).toBe('PRIVACY_UNSUPPORTED_EVENT');
        expect(refusal(() => make().compose({ kind: 'selfComposed', count: 2, event }))).toBe(
          'PRIVACY_UNSUPPORTED_EVENT',
        );
      }
      for (const event of events) expect(make().supports(event)).toBe(true);
      expect(make().supports({ kind: 'nonPrivate' })).toBe(true);
    });

    it('refuses numbers that are none', () => {
      for (const delta of [0, 1, -1, Number.NaN]) expect(refusal(() => make().epsilon(delta))).toBe('USAGE_RANGE');
      for (const count of [-1, 0.5, Number.NaN])
        expect(refusal(() => make().compose(events[0] as DpEvent, count))).toBe('USAGE_RANGE');
      expect(refusal(() => make().compose({ kind: 'gaussian', noiseMultiplier: 0 }))).toBe('USAGE_RANGE');
      expect(refusal(() => make().compose({ kind: 'gaussian', noiseMultiplier: Number.NaN }))).toBe('USAGE_RANGE');
    });
  });
}

const response: DpEvent = { kind: 'randomizedResponse', noiseParameter: 0.5, buckets: 4 };
describeAccountant(
  'rdp, add-remove',
  () => rdpAccountant(),
  [...NOISE, ...SAMPLING],
  [response, fixedSize(10, gaussian(1))],
);
describeAccountant(
  'rdp, replace-one',
  () => rdpAccountant({ relation: 'replace-one' }),
  [
    ...NOISE,
    ['fixed-size sample', [1000, 500, 100, 1].map((size) => fixedSize(size, gaussian(2)))],
    ['randomized response', [0.1, 0.5, 0.9].map((noiseParameter): DpEvent => ({ ...response, noiseParameter }))],
  ],
  [sampled(0.5, gaussian(1))],
);
describeAccountant('zcdp', () => zcdpAccountant(), NOISE, [sampled(0.5, gaussian(1)), skellam(1e6), response]);
describeAccountant('gdp', () => gdpAccountant(), NOISE.slice(0, 1), [
  sampled(0.5, gaussian(1)),
  sum(4000),
  choice(0.1),
  laplace(1),
]);

const step = { gridStep: 2 ** -10 };
const discreteLaplace = (noiseParameter: number): DpEvent => ({
  kind: 'discreteLaplace',
  noiseParameter,
  sensitivity: 2,
});
const oneCoordinate = (shareVariance: number): DpEvent =>
  ({ ...sum(shareVariance), dimension: 1, sensitivity: 3 }) as DpEvent;
const LOSSES: readonly Family[] = [
  ...NOISE.filter(([name]) => ['gaussian', 'laplace'].includes(name)),
  ['permuteAndFlip', [2, 0.5, 0.1].map(flip)],
  ['exponentialMechanism', [2, 0.5, 0.1].map(choice)],
  ['discreteLaplace', [2, 0.5, 0.1].map(discreteLaplace)],
  ['discreteGaussian, one coordinate', [4, 9, 100].map(oneCoordinate)],
  ['sampled gaussian', [1, 0.5, 0.1, 0.01].map((q) => sampled(q, gaussian(1)))],
  ['sampled laplace', [1, 0.5, 0.1].map((q) => sampled(q, laplace(2)))],
  ['sampled choice', [1, 0.5, 0.1].map((q) => sampled(q, choice(0.5)))],
  ['sampled discreteGaussian', [1, 0.5, 0.1].map((q) => sampled(q, oneCoordinate(4)))],
];
describeAccountant(
  'pld, reduction refused',
  () => pldAccountant({ discreteReduction: 'refused' }),
  LOSSES,
  [response, fixedSize(10, gaussian(1)), sum(4000), skellam(1e6), { kind: 'zCdp', rho: 0.1 }],
  true,
);
describeAccountant(
  'pld, replace-one, fixed grid',
  () => pldAccountant({ ...step, relation: 'replace-one' }),
  [
    ['sampled gaussian', [1, 0.5, 0.1].map((q) => sampled(q, gaussian(1)))],
    ['fixed-size sample', [1000, 500, 100].map((size) => fixedSize(size, gaussian(2)))],
    ['randomized response', [0.1, 0.5, 0.9].map((noiseParameter): DpEvent => ({ ...response, noiseParameter }))],
  ],
  [sampled(0.5, laplace(1))],
  true,
);
describeAccountant(
  'pld',
  () => pldAccountant(),
  [
    ['discreteGaussian', [900, 3600, 90_000].map((variance) => sum(variance))],
    ['sampled discreteGaussian', [1, 0.5, 0.1, 0.01].map((q) => sampled(q, sum(4000)))],
  ],
  [skellam(1e6)],
  true,
);

describe('accountants together', () => {
  it('order exact Gaussian <= concentrated = Renyi for plain Gaussian noise', () => {
    for (const [z, count] of [
      [0.5, 1],
      [1, 1],
      [5, 100],
      [40, 1000],
    ] as const) {
      for (const delta of [1e-3, 1e-9, 1e-30]) {
        const [exact, concentrated, renyi] = [gdpAccountant(), zcdpAccountant(), rdpAccountant()].map((accountant) =>
          accountant.compose(gaussian(z), count).epsilon(delta),
        ) as [number, number, number];
        expect(exact).toBeLessThan(concentrated);
        expect(Math.abs(renyi / concentrated - 1)).toBeLessThan(1e-5);
      }
    }
  });

  it('find the integer order at which an interpolated curve is best', () => {
    const orders = Array.from({ length: 255 }, (_, i) => i + 2);
    for (const variance of [1e4, 1e5, 1e6, 3e6, 1e7]) {
      const event = sampled(0.5, sum(variance));
      const best = rdpAccountant({ orders }).compose(event, 3).epsilon(1e-6);
      expect(rdpAccountant().compose(event, 3).epsilon(1e-6)).toBeLessThanOrEqual(best);
    }
  });

  it('charge the distance of a sum from one discrete Gaussian', () => {
    // Shares of 1.55 units over 200 coordinates: tau is about 5e-10.
    const narrow = { ...sum(2.4, 4), dimension: 200, sensitivity: 8 } as DpEvent;
    const { rho, xi } = zcdpCost(narrow, 'add-remove');
    const gaussianRho = 64 / (2 * 4 * 2.4);
    expect(xi).toBe(0);
    expect(rho).toBeGreaterThan(gaussianRho * (1 + 1e-10));
    expect(rho).toBeLessThan(gaussianRho * 1.001);
    for (const order of [2, 20]) {
      const renyi = rdpCurve(narrow, 'add-remove')(order);
      expect(renyi).toBeGreaterThan(order * gaussianRho);
      expect(renyi).toBeLessThanOrEqual(order * rho);
    }
  });

  it('charge ten choices ten times: a count is never dropped', () => {
    const once = rdpAccountant().compose(choice(0.5)).epsilon(1e-6);
    const ten = rdpAccountant().compose(choice(0.5), 10).epsilon(1e-6);
    expect(once).toBeLessThan(0.506);
    // The reference composes ten single choices to 4.0093 over its orders.
    expect(ten).toBeGreaterThan(3.99);
    expect(ten).toBeLessThan(4.0094);
  });

  it('charge a mechanism that runs several times on one sample for every run', () => {
    const thrice: DpEvent = { kind: 'selfComposed', count: 3, event: gaussian(2) };
    const listed: DpEvent = { kind: 'composed', events: [gaussian(2), gaussian(2), gaussian(2)] };
    for (const order of [2, 3, 9]) {
      expect(rdpCurve(thrice, 'add-remove')(order)).toBeCloseTo((3 * order) / 8, 12);
      expect(rdpCurve(listed, 'add-remove')(order)).toBeCloseTo((3 * order) / 8, 12);
      // Three runs at z = 2 are one at 2 / sqrt(3): the general bound is above its exact sampled cost, by its factor 3.
      const exact = rdpCurve(sampled(0.1, gaussian(2 / Math.sqrt(3))), 'add-remove')(order);
      const bound = rdpCurve(sampled(0.1, thrice), 'add-remove')(order);
      expect(bound).toBeGreaterThanOrEqual(exact * (1 - 1e-12));
      expect(bound).toBeLessThan(3 * exact);
    }
  });

  it('need the symmetry of the noise to be declared: without it sampling costs more', () => {
    const symmetric = sum(160_000 / 6);
    const asymmetric = { ...symmetric, symmetric: false } as DpEvent;
    const epsilon = (event: DpEvent): number => rdpAccountant().compose(sampled(0.01, event), 1000).epsilon(1e-6);
    // z = 2: what sampled Gaussian noise of the same size costs, and what the general bound gives.
    expect(epsilon(symmetric)).toBeCloseTo(0.7848, 2);
    expect(epsilon(symmetric)).toBeLessThan(0.7849);
    expect(epsilon(asymmetric)).toBeCloseTo(1.0453, 2);
  });
});

describe('event JSON', () => {
  const all: readonly DpEvent[] = [
    ...[...NOISE, ...SAMPLING].flatMap(([, list]) => list),
    response,
    fixedSize(10, gaussian(0.1)),
    { kind: 'composed', events: [gaussian(1), { kind: 'selfComposed', count: 3, event: laplace(0.25) }] },
    { ...sum(1e21), otherShareVariances: [4.5, 9] } as DpEvent,
    { kind: 'nonPrivate' },
    { kind: 'unsupported', reason: 'x' },
  ];
  it('comes back as it was, with decimal strings for non-integers', () => {
    for (const event of all) {
      const text = JSON.stringify(eventToJson(event));
      expect(eventFromJson(JSON.parse(text))).toEqual(event);
      expect(eventKey(eventFromJson(JSON.parse(text)))).toBe(text);
      expect(text).not.toMatch(/[^"\d]\d+\.\d/);
    }
    expect(eventToJson(gaussian(0.1))).toEqual({ kind: 'gaussian', noiseMultiplier: '0.1' });
  });

  it('refuses every other spelling', () => {
    const codes = [
      [{ kind: 'gaussian', noiseMultiplier: 0.5 }, 'CODEC_TYPE'],
      [{ kind: 'gaussian', noiseMultiplier: '0.50' }, 'CODEC_TYPE'],
      [{ kind: 'gaussian', noiseMultiplier: '1' }, 'CODEC_TYPE'],
      [{ kind: 'gaussian', noiseMultiplier: 'Infinity' }, 'USAGE_RANGE'],
      [{ kind: 'gaussian', noiseMultiplier: 1, extra: 1 }, 'CODEC_EXTRA_KEY'],
      [{ kind: 'gaussian' }, 'CODEC_TYPE'],
      [{ kind: 'toString' }, 'CODEC_TYPE'],
      [[], 'CODEC_TYPE'],
      [null, 'CODEC_TYPE'],
      [{ kind: 'poissonSampled', probability: 2, event: { kind: 'nonPrivate' } }, 'USAGE_RANGE'],
      [{ kind: 'selfComposed', count: 0, event: { kind: 'nonPrivate' } }, 'USAGE_RANGE'],
      [{ kind: 'exponentialMechanism', epsilon: 1, monotone: 1 }, 'USAGE_RANGE'],
      [{ kind: 'composed', events: {} }, 'USAGE_RANGE'],
    ] as const;
    for (const [json, code] of codes)
      expect(
        refusal(() => eventFromJson(json)),
        JSON.stringify(json),
      ).toBe(code);
    let deep: unknown = { kind: 'nonPrivate' };
    for (let i = 0; i < 20; i++) deep = { kind: 'selfComposed', count: 1, event: deep };
    expect(refusal(() => eventFromJson(deep))).toBe('CODEC_LIMIT');
  });
});
