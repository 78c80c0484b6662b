import { describe, expect, it } from 'vitest';
import { type CoveyError, isCoveyError } from '../protocol/errors.ts';
import {
  type Accountant,
  gdpAccountant,
  pldAccountant,
  rdpAccountant,
  restoreAccountant,
  zcdpAccountant,
} from '../src/privacy/accountant.ts';
import { type DpEvent, RELATIONS, type Relation } from '../src/privacy/events.ts';

/* What holds for every kind of event there is: a kind that is added without an entry here does not compile. */

const z = (noiseMultiplier: number): DpEvent => ({ kind: 'gaussian', noiseMultiplier });
const integers = { sensitivity: 3, dimension: 1, symmetric: true } as const;
const EVENTS: { readonly [K in DpEvent['kind']]: Extract<DpEvent, { kind: K }> } = {
  gaussian: { kind: 'gaussian', noiseMultiplier: 3 },
  discreteGaussian: { kind: 'discreteGaussian', shares: 3, shareVariance: 40, ...integers },
  skellam: { kind: 'skellam', variance: 120, ...integers },
  laplace: { kind: 'laplace', noiseMultiplier: 5, symmetric: true },
  discreteLaplace: { kind: 'discreteLaplace', noiseParameter: 0.2, sensitivity: 2 },
  gaussianMixture: {
    kind: 'gaussianMixture',
    noiseStddev: 3,
    sensitivities: [0, 1, 2],
    probabilities: [0.5, 0.25, 0.25],
  },
  truncatedPoissonGaussian: {
    kind: 'truncatedPoissonGaussian',
    populationSize: 100,
    probability: 0.1,
    maxBatchSize: 20,
    noiseMultiplier: 2,
  },
  exponentialMechanism: { kind: 'exponentialMechanism', epsilon: 0.2, monotone: true },
  permuteAndFlip: { kind: 'permuteAndFlip', epsilon: 0.2 },
  randomizedResponse: { kind: 'randomizedResponse', noiseParameter: 0.8, buckets: 4 },
  poissonSampled: { kind: 'poissonSampled', probability: 0.1, event: z(1) },
  fixedSizeSampled: { kind: 'fixedSizeSampled', populationSize: 100, sampleSize: 10, event: z(2) },
  selfComposed: { kind: 'selfComposed', count: 3, event: z(5) },
  composed: { kind: 'composed', events: [z(5), { kind: 'laplace', noiseMultiplier: 9, symmetric: true }] },
  zCdp: { kind: 'zCdp', rho: 0.05 },
  treeAggregation: { kind: 'treeAggregation', noiseMultiplier: 6, stepCounts: [7] },
  repeatAndSelect: { kind: 'repeatAndSelect', event: z(6), mean: 5, shape: 1 },
  approximateDp: { kind: 'approximateDp', epsilon: 0.2, delta: 1e-9 },
  nonPrivate: { kind: 'nonPrivate' },
  unsupported: { kind: 'unsupported', reason: 'nobody knows' },
};
const MAKERS = { rdp: rdpAccountant, zcdp: zcdpAccountant, gdp: gdpAccountant, pld: pldAccountant } as const;
type Name = keyof typeof MAKERS;
const NAMES = Object.keys(MAKERS) as Name[];

const make = (name: Name, relation: Relation): Accountant => MAKERS[name]({ relation });
/** Kinds that an accountant bounds under some relation, with the first such relation. */
const BOUNDED = NAMES.flatMap((name) =>
  Object.values(EVENTS).flatMap((event) => {
    const relation = RELATIONS.find((one) => make(name, one).supports(event));
    return relation === undefined ? [] : [{ name, kind: event.kind, event: event as DpEvent, relation }];
  }),
);
const refusal = (run: () => unknown): CoveyError['code'] | 'accepted' => {
  try {
    run();
  } catch (error) {
    if (isCoveyError(error)) return error.code;
    throw error;
  }
  return 'accepted';
};

describe('every event', () => {
  it('is bounded by somebody, but for the one that nobody can bound', () => {
    const kinds = (name: Name): string[] => BOUNDED.filter((one) => one.name === name).map(({ kind }) => kind);
    const all = Object.keys(EVENTS).filter((kind) => kind !== 'unsupported');
    expect(new Set(BOUNDED.map(({ kind }) => kind))).toEqual(new Set(all));
    expect(all.filter((kind) => !kinds('rdp').includes(kind))).toEqual(['gaussianMixture', 'truncatedPoissonGaussian']);
    expect(all.filter((kind) => !kinds('pld').includes(kind))).toEqual(['zCdp', 'treeAggregation', 'repeatAndSelect']);
    expect(kinds('zcdp')).not.toContain('poissonSampled');
    expect(kinds('gdp')).toEqual(['gaussian', 'selfComposed', 'nonPrivate']);
  });

  it.each(BOUNDED)('$kind in $name, $relation: n at once is n one by one', ({ name, event, relation }) => {
    const empty = make(name, relation);
    const once = empty.compose(event, 6);
    const one = Array.from({ length: 6 }).reduce((sum: Accountant) => sum.compose(event), empty);
    const inside = empty.compose({ kind: 'selfComposed', count: 6, event });
    const listed = empty.compose({ kind: 'composed', events: Array.from({ length: 6 }, () => event) });
    const halves = empty.compose({ kind: 'selfComposed', count: 2, event: { kind: 'selfComposed', count: 3, event } });
    for (const delta of [1e-2, 1e-6, 1e-30]) {
      const epsilon = once.epsilon(delta);
      expect(epsilon).toBeGreaterThanOrEqual(0);
      for (const other of [one, inside, listed, halves]) expect(other.epsilon(delta)).toBe(epsilon);
    }
    for (const other of [one, inside, listed, halves]) expect(other.delta(0.5)).toBe(once.delta(0.5));
  });

  it.each(BOUNDED)(
    '$kind in $name, $relation: more of it, or a smaller delta, costs more',
    ({ name, event, relation }) => {
      // Grids of two queries differ by what a grid may over-estimate.
      const slack = name === 'pld' ? 1 + 2e-4 : 1;
      const epsilons = [1, 2, 5, 40].map((n) => make(name, relation).compose(event, n).epsilon(1e-8));
      const deltas = [1e-1, 1e-3, 1e-8, 1e-16, 1e-30].map((delta) =>
        make(name, relation).compose(event, 3).epsilon(delta),
      );
      for (const row of [epsilons, deltas])
        for (const [i, epsilon] of row.entries()) expect(epsilon * slack).toBeGreaterThanOrEqual(row[i - 1] ?? 0);
      const hasDelta = ['nonPrivate', 'approximateDp'].includes(event.kind);
      expect(deltas.every(Number.isFinite)).toBe(!hasDelta);
    },
  );

  it.each(BOUNDED.filter(({ name }) => name === 'pld'))(
    '$kind: the loss distribution is no worse than Renyi',
    ({ event, relation }) => {
      const [tight, loose] = [make('pld', relation), make('rdp', relation)];
      if (!loose.supports(event)) return;
      for (const count of [1, 7, 100])
        for (const delta of [1e-3, 1e-6, 1e-14]) {
          const [pld, rdp] = [tight, loose].map((accountant) => accountant.compose(event, count).epsilon(delta));
          expect(pld).toBeLessThanOrEqual((rdp as number) * (1 + 1e-9));
        }
    },
  );

  it.each(BOUNDED)('$kind in $name, $relation: comes back from its state, as text', ({ name, event, relation }) => {
    const composed = make(name, relation).compose(event, 4);
    const restored = restoreAccountant(
      JSON.parse(JSON.stringify(composed.state())) as ReturnType<typeof composed.state>,
    );
    expect(restored.state()).toEqual(composed.state());
    expect([restored.name, restored.epsilon(1e-6)]).toEqual([name, composed.epsilon(1e-6)]);
  });

  it('that no accountant knows is refused, whatever is around it', () => {
    const unknown = { kind: 'clairvoyance', noiseMultiplier: 3 } as unknown as DpEvent;
    const around: ((event: DpEvent) => DpEvent)[] = [
      (event) => event,
      (event) => ({ kind: 'selfComposed', count: 2, event }),
      (event) => ({ kind: 'composed', events: [z(3), event] }),
      (event) => ({ kind: 'poissonSampled', probability: 0.5, event }),
      (event) => ({ kind: 'repeatAndSelect', event, mean: 3, shape: 1 }),
    ];
    for (const name of NAMES)
      for (const relation of RELATIONS)
        for (const wrap of around) {
          expect(refusal(() => make(name, relation).compose(wrap(EVENTS.unsupported)))).toBe(
            'PRIVACY_UNSUPPORTED_EVENT',
          );
          expect(refusal(() => make(name, relation).compose(wrap(unknown)))).not.toBe('accepted');
        }
  });

  it('keeps the state that earlier versions stored', () => {
    // Written once; never to be written again.
    const stored = {
      accountant: 'pld',
      charges: [
        { count: 3, event: { kind: 'gaussian', noiseMultiplier: 4 } },
        {
          count: 40,
          event: { event: { kind: 'gaussian', noiseMultiplier: 1 }, kind: 'poissonSampled', probability: '0.01' },
        },
      ],
      relation: 'add-remove',
    };
    const rebuilt = pldAccountant()
      .compose(z(4), 3)
      .compose({ ...EVENTS.poissonSampled, probability: 0.01 }, 40);
    expect(rebuilt.state()).toEqual(stored);
    expect(restoreAccountant(stored).epsilon(1e-6)).toBeCloseTo(2.4, 0);
    expect(restoreAccountant({ ...stored, accountant: 'rdp' }).epsilon(1e-6)).toBeGreaterThan(
      restoreAccountant(stored).epsilon(1e-6),
    );
  });
});

describe('extreme parameters', () => {
  const sampled = (probability: number, noiseMultiplier: number): DpEvent => ({
    kind: 'poissonSampled',
    probability,
    event: z(noiseMultiplier),
  });
  // Deviation next to nothing or huge, rates next to 0 or 1, a million steps.
  const EXTREME: readonly (readonly [name: string, event: DpEvent])[] = [
    ['no noise', z(1e-3)],
    ['huge noise', z(1e6)],
    ['no noise, rare', sampled(1e-9, 1e-3)],
    ['no noise, half', sampled(0.5, 1e-3)],
    ['hardly any noise', sampled(0.99, 1e-6)],
    ['rare', sampled(1e-9, 1)],
    ['nearly all', sampled(1 - 1e-8, 1)],
    ['huge noise, sampled', sampled(0.01, 1e6)],
    ['huge noise, rare', sampled(1e-9, 1e6)],
    ['wide Laplace', { kind: 'laplace', noiseMultiplier: 1e6, symmetric: true }],
    ['narrow Laplace', { kind: 'laplace', noiseMultiplier: 1e-3, symmetric: true }],
    ['a sure choice', { kind: 'exponentialMechanism', epsilon: 1e3, monotone: true }],
  ];

  it.each(EXTREME)('%s: a number that is right or above, once and a million times', (_, event) => {
    for (const [count, delta] of [
      [1, 1e-30],
      [1, 1 - 1e-9],
      [1_000_000, 1e-6],
    ] as const) {
      const [pld, rdp] = [pldAccountant(), rdpAccountant()].map((one) => one.compose(event, count).epsilon(delta));
      expect(Number.isFinite(pld) && Number.isFinite(rdp)).toBe(true);
      expect(pld).toBeLessThanOrEqual((rdp as number) * (1 + 1e-9));
    }
  });

  it('meets what is known in closed form', () => {
    // mu = 1e3 and 1e6, with 60 digits: never below, and nothing above.
    for (const [count, delta, exact] of [
      [1, 1e-6, 504752.4266783593],
      [1, 1e-30, 511463.0303773447],
      [1_000_000, 1e-6, 500004753423.3088],
      [1_000_000, 1e-30, 500011464023.6884],
    ] as const) {
      const epsilon = pldAccountant().compose(z(1e-3), count).epsilon(delta);
      expect(epsilon).toBeGreaterThanOrEqual(exact);
      expect(epsilon).toBeLessThan(exact * (1 + 1e-11));
    }
    expect(gdpAccountant().compose(z(1e-9)).epsilon(1e-6)).toBeGreaterThan(5e17);
    expect(pldAccountant().compose(z(1e3), 1_000_000).epsilon(1e-6)).toBeCloseTo(
      gdpAccountant().compose(z(1)).epsilon(1e-6),
      9,
    );
    // A rare hit that reveals everything: nothing below its probability, all of it above.
    const rare = pldAccountant().compose(sampled(1e-9, 1e-3));
    expect(rare.epsilon(1.1e-9)).toBeLessThan(1e-9);
    expect(rare.epsilon(0.5e-9)).toBeGreaterThan(499_000);
    expect(rdpAccountant().compose(sampled(1e-9, 1e-3)).epsilon(1e-6)).toBeGreaterThan(499_000);
  });

  it('are refused by one clear line where they are no parameters', () => {
    for (const name of NAMES) {
      const accountant = make(name, 'add-remove');
      for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
        expect(refusal(() => accountant.compose(z(bad)))).toBe('USAGE_RANGE');
      for (const delta of [0, 1, -1e-9, 2, Number.NaN, Number.POSITIVE_INFINITY])
        expect(refusal(() => accountant.compose(z(1)).epsilon(delta))).toBe('USAGE_RANGE');
      for (const epsilon of [-1e-9, Number.NaN])
        expect(refusal(() => accountant.compose(z(1)).delta(epsilon))).toBe('USAGE_RANGE');
      for (const count of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
        expect(refusal(() => accountant.compose(z(1), count))).toBe('USAGE_RANGE');
      expect(accountant.compose(z(1), 0).epsilon(1e-6)).toBe(0);
      expect(accountant.compose(z(1)).delta(Number.POSITIVE_INFINITY)).toBe(0);
    }
    for (const probability of [0, -0.1, 1.1, Number.NaN])
      expect(refusal(() => rdpAccountant().compose(sampled(probability, 1)))).toBe('USAGE_RANGE');
  });
});
