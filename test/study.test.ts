import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RecordedResult } from '../experiments/benchmark.ts';
import { settingsWith } from '../experiments/rows.ts';
import { settingsOf } from '../experiments/settings.ts';
import { cellsOf, describeSettings, epsilonOf, filterCells, measure, varyingAxes } from '../experiments/study/cells.ts';
import { studyJobs } from '../experiments/study/grid.ts';
import { estimateMean, studentQuantile } from '../experiments/study/interval.ts';
import { measureLeakage } from '../experiments/study/leakage.ts';
import { plotStudy } from '../experiments/study/plots.ts';
import { priceOfSearch } from '../experiments/study/price.ts';
import { candidatesOf, paretoFront, recommend } from '../experiments/study/recommend.ts';
import { parseStudy } from '../experiments/study/schema.ts';
import { eventToJson, type JsonObject } from '../src/privacy/event-json.ts';
import { gaussianEpsilon, rdpAccountant } from '../src/privacy/index.ts';

interface Made {
  readonly algorithm?: string;
  readonly seed?: number;
  readonly mean?: number;
  readonly epsilon?: number | null;
  readonly clip?: number;
  readonly protection?: 'noise' | 'none';
  readonly charges?: Readonly<Record<'server' | 'release', JsonObject>> | null;
}

/** A recorded run with the numbers that a test is about. */
function made({ algorithm = 'fedavg', seed = 1, mean = 0.8, epsilon = 1, clip = 1, ...rest }: Made): RecordedResult {
  const settings = { ...settingsWith(settingsOf('digits'), { unit: 'record', clippingNorm: clip }) };
  const evaluation = { mean, weightedMean: mean, stddev: 0.1, worst: mean - 0.2, worstTenth: mean - 0.1 };
  const isLocal = algorithm === 'local';
  return {
    job: `${algorithm} ${seed} ${epsilon} ${clip}`,
    scenario: 'digits',
    split: `00000000000${seed}`,
    seed,
    algorithm,
    options: {},
    rounds: settings.rounds,
    unit: isLocal ? null : 'record',
    delta: isLocal ? null : 1e-5,
    epsilon: isLocal || epsilon === null ? null : { server: epsilon, release: 1.2 * epsilon },
    protection: isLocal ? 'none' : 'noise',
    bytesUp: 0,
    bytesDown: 0,
    seconds: 1,
    released: isLocal ? null : evaluation,
    personal: evaluation,
    balanced: mean,
    protocol: 'ideal',
    privacy: isLocal ? null : { epsilon: epsilon ?? 1 },
    settings,
    perStep: null,
    colluders: 0,
    versions: { covey: '0', node: '0' },
    ...rest,
  };
}

describe('a study', () => {
  const jobsOf = (parts: string, more = ''): ReturnType<typeof studyJobs> =>
    studyJobs(parseStudy(`${more}\nparts:\n${parts}`, 'study.yaml'), null);

  it('spans every combination once, seed after seed', () => {
    const jobs = jobsOf(
      '  - { scenario: digits, algorithm: [fedavg, ditto], epsilon: [1, none], clip: [1, 2] }',
      'seeds: 3',
    );
    expect(jobs.length).toBe(24);
    expect(jobs.map(({ experiment }) => experiment.seed)).toEqual([1, 2, 3].flatMap((seed) => new Array(8).fill(seed)));
    expect(new Set(jobs.map((job) => JSON.stringify(job))).size).toBe(24);
    expect(jobs.slice(0, 2).map(({ experiment }) => experiment.privacy)).toEqual([{ epsilon: 1 }, null]);
  });

  it('does not compute one run under two names', () => {
    // Alone there is no noise, no clip, no slots; without slots there is no K and no mode.
    expect(
      jobsOf('  - { scenario: digits, algorithm: local, epsilon: [1, 2], clip: [1, 2], slots: [2, 3] }').length,
    ).toBe(1);
    expect(jobsOf('  - { scenario: digits, algorithm: fedavg, slots: [2, 3], mode: [hidden, hybrid] }').length).toBe(1);
    expect(
      jobsOf('  - { scenario: digits, algorithm: ifca, slots: [2, 3], mode: [hidden, hybrid, open] }').length,
    ).toBe(4);
    const modes = jobsOf('  - { scenario: digits, algorithm: fedavg, mode: [hidden, open] }').map(
      ({ experiment }) => experiment.mode,
    );
    expect(modes).toEqual([undefined, 'open']);
  });

  it.each([
    [
      '  - { scenario: digits, epsilon: [1, 0] }',
      /"parts\[0\]\.epsilon\[1\]" expected number .* or "none", got 0 \(study\.yaml\)/,
    ],
    [
      '  - { scenario: digits, epsilon: 1, noiseMultiplier: 1 }',
      /"parts.0" expected epsilon or noiseMultiplier, got both/,
    ],
    ['  - { scenario: digits, epsilons: 1 }', /epsilons/],
    ['  - { scenario: nothing }', /"scenario" expected one of digits/],
    ['  - { scenario: digits, algorithm: sgd }', /sgd/],
    ['  - { scenario: digits, set: { mu: 1 } }', /"set" expected nothing for these rows, got mu/],
    ['  - { scenario: digits, algorithm: ifca, mode: open }', /"mode" expected hidden or hybrid/],
    ['  - { scenario: heart-4 }', /"--data-dir" expected a folder with uci-heart for heart-4, got none/],
    [
      '  - { scenario: digits, unit: record, algorithm: fedrep }',
      /expected one that keeps the record rule, got fedrep/,
    ],
  ])('says in one line what is wrong: %s', (part, message) => {
    expect(() => jobsOf(part)).toThrow(message);
    expect(() => jobsOf(part)).toThrow(/^[^\n]*$/);
  });
});

describe('intervals over seeds', () => {
  it('are those of Student', () => {
    // R: qt(.975, c(1, 2, 9, 30, 31, 60))
    for (const [degrees, quantile] of [
      [1, 12.7062],
      [2, 4.3027],
      [9, 2.2622],
      [30, 2.0423],
      [31, 2.0395],
      [60, 2.0003],
    ] as const)
      expect(studentQuantile(degrees)).toBeCloseTo(quantile, 4);
    const { halfWidth, mean, stddev } = estimateMean([1, 2, 3]);
    expect([mean, stddev, halfWidth]).toEqual([2, 1, expect.closeTo(4.3027 / Math.sqrt(3), 6)]);
    expect(estimateMean([5]).halfWidth).toBeNull();
  });
});

describe('cells', () => {
  const results = [
    made({ seed: 2, mean: 0.9 }),
    made({ seed: 1, mean: 0.7 }),
    made({ epsilon: 2 }),
    made({ clip: 2 }),
    made({ algorithm: 'local' }),
  ];
  const cells = cellsOf(results);

  it('hold the runs of one setting whatever their seed', () => {
    expect(cells.map(({ runs }) => runs.map(({ seed }) => seed))).toEqual([[1, 2], [1], [1], [1]]);
    expect(measure(cells[0] as (typeof cells)[number], 'mean')?.mean).toBeCloseTo(0.8, 12);
    expect(cells.map((cell) => epsilonOf(cell, 'server'))).toEqual([1, 2, 1, 0]);
    const free = cellsOf([made({ protection: 'none', epsilon: 1e6 })]);
    expect(free.map((cell) => epsilonOf(cell, 'server'))).toEqual([Number.POSITIVE_INFINITY]);
  });

  it('are told apart by what differs, and filtered by it', () => {
    expect(varyingAxes(cells)).toEqual(['clip']);
    expect(cells.slice(1, 3).map((cell) => describeSettings(cell, ['algorithm', 'clip']))).toEqual([
      'fedavg, clip 1',
      'fedavg, clip 2',
    ]);
    expect(filterCells(cells, { clip: '2' }).map(({ settings }) => settings.algorithm)).toEqual(['fedavg', 'local']);
    expect(() => filterCells(cells, { clips: '2' })).toThrow(/"--where" expected names among algorithm, .*, got clips/);
    expect(() => filterCells(cells, { clip: '3' })).toThrow(
      /"--where" expected settings of a recorded run, got clip=3/,
    );
  });
});

describe('a recommendation', () => {
  const spread = (changes: Made, mean: number): RecordedResult[] =>
    [-0.01, 0, 0.01].map((shift, seed) => made({ ...changes, seed, mean: mean + shift }));
  const results = [
    ...spread({ epsilon: 1 }, 0.7),
    ...spread({ epsilon: 2 }, 0.8),
    ...spread({ epsilon: 2, clip: 2 }, 0.79),
    ...spread({ epsilon: 4 }, 0.75),
    ...spread({ epsilon: 8 }, 0.9),
  ];
  const candidates = candidatesOf(cellsOf(results), 'mean', 'server');

  it('lies on the front: nothing costs less and reaches more', () => {
    expect(paretoFront(candidates).map(({ epsilon }) => epsilon)).toEqual([1, 2, 8]);
    const value = fc.record({
      epsilon: fc.integer({ min: 1, max: 20 }),
      mean: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 20 }), (values) => {
        const all = candidatesOf(cellsOf(values.map((one, i) => made({ ...one, clip: i + 1 }))), 'mean', 'server');
        const front = paretoFront(all);
        for (const one of all) {
          const isBeaten = all.some(
            (other) =>
              other.epsilon <= one.epsilon &&
              other.value.mean >= one.value.mean &&
              (other.epsilon < one.epsilon || other.value.mean > one.value.mean),
          );
          if (front.includes(one)) expect(isBeaten).toBe(false);
          else expect(front.some((f) => f.epsilon <= one.epsilon && f.value.mean >= one.value.mean)).toBe(true);
        }
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  it('meets the goal and names what the seeds cannot tell apart', () => {
    const budget = recommend(candidates, { kind: 'budget', maxEpsilon: 2 }, 'mean');
    expect([budget.winner.epsilon, budget.winner.value.mean]).toEqual([2, expect.closeTo(0.8, 9)]);
    expect(budget.ties.map(({ cell }) => cell.settings.clip)).toEqual(['2']);
    expect(budget.heldOut).toBeCloseTo(0.8, 9);
    const utility = recommend(candidates, { kind: 'utility', minValue: 0.78 }, 'mean');
    expect(utility.winner.epsilon).toBe(2);
    expect(() => recommend(candidates, { kind: 'budget', maxEpsilon: 0.5 }, 'mean')).toThrow(
      /"--max-epsilon" expected at least 1\.00, the smallest recorded, got 0\.5/,
    );
    expect(() => recommend(candidates, { kind: 'utility', minValue: 0.95 }, 'mean')).toThrow(
      /"--min-value" expected at most 0\.9000, the best recorded, got 0\.95/,
    );
  });

  it('does not promise what choosing the luckiest of many cells adds', () => {
    // Cells that are all alike: each is the best on a seed of its own.
    const lucky = [0, 1, 2].flatMap((clip) =>
      [0, 1, 2].map((seed) => made({ clip: clip + 1, seed, mean: seed === clip ? 0.9 : 0.6 })),
    );
    const { heldOut, winner } = recommend(
      candidatesOf(cellsOf(lucky), 'mean', 'server'),
      { kind: 'budget', maxEpsilon: 2 },
      'mean',
    );
    expect(winner.value.mean).toBeCloseTo(0.7, 9);
    expect(heldOut).toBeCloseTo(0.6, 9);
  });
});

describe('the price of a search', () => {
  /** Runs of T Gaussian releases each. */
  const chargesOf = (noiseMultiplier: number, count: number): Record<'server' | 'release', JsonObject> => {
    const state = {
      accountant: 'rdp',
      relation: 'add-remove',
      charges: [{ count, event: eventToJson({ kind: 'gaussian', noiseMultiplier }) }],
    };
    return { server: state, release: state };
  };
  const runs = Array.from({ length: 12 }, (_, i) => made({ seed: i, charges: chargesOf(20, 10) }));

  it('composes every run: twelve runs of ten releases are one of 120', () => {
    const price = priceOfSearch(runs, 1e-5);
    const composed = rdpAccountant().compose({ kind: 'gaussian', noiseMultiplier: 20 }, 120).epsilon(1e-5);
    expect([price.runs, price.server, price.release]).toEqual([12, composed, composed]);
    // The exact loss of 120 releases of multiplier 20 is that of one of 20 / sqrt(120).
    expect(price.server).toBeGreaterThan(gaussianEpsilon(20 / Math.sqrt(120), 1e-5));
    expect(price.server).toBeLessThan(1.15 * gaussianEpsilon(20 / Math.sqrt(120), 1e-5));
    expect(price.server).toBeGreaterThan(
      rdpAccountant().compose({ kind: 'gaussian', noiseMultiplier: 20 }, 10).epsilon(1e-5),
    );
  });

  it('lowers the release view alone by repeat-and-select, by the worst candidate', () => {
    const many = Array.from({ length: 200 }, (_, i) => made({ seed: i, charges: chargesOf(20, 10) }));
    const price = priceOfSearch(many, 1e-5);
    expect(price.releaseSelected).toBeLessThan(price.release);
    // Papernot, Steinke 2021, Theorem 6, as an event of the accountant.
    const event = { kind: 'composed', events: new Array(10).fill({ kind: 'gaussian', noiseMultiplier: 20 }) } as const;
    const selected = rdpAccountant().compose({ kind: 'repeatAndSelect', event, mean: 200 }).epsilon(1e-5);
    expect(price.releaseSelected).toBeCloseTo(selected, 9);
    const worse = [...many.slice(1), made({ seed: 0, clip: 2, charges: chargesOf(10, 10) })];
    expect(priceOfSearch(worse, 1e-5).releaseSelected).toBeGreaterThan(selected);
  });

  it('counts what leaves no claim and what nobody recorded', () => {
    const mixed = [
      ...runs,
      made({ protection: 'none', epsilon: 1e6, charges: chargesOf(1, 1) }),
      made({ seed: 99 }),
      made({ algorithm: 'local' }),
    ];
    const price = priceOfSearch(mixed, 1e-5);
    expect([price.runs, price.unprotected, price.unknown]).toEqual([14, 1, 1]);
    expect(price.server).toBe(priceOfSearch(runs, 1e-5).server);
    expect(priceOfSearch([made({ algorithm: 'local' })], 1e-5)).toMatchObject({
      runs: 0,
      server: 0,
      releaseSelected: null,
    });
  });
});

describe('leakage of memberships', () => {
  it('is what the clusters tell: planted attributes are found, equal shares are not', () => {
    const planted = measureLeakage([
      [45, 5],
      [5, 45],
    ]);
    expect([planted.majority, planted.inference, planted.leaveOneOut]).toEqual([0.5, 0.9, 0.9]);
    // 1 - h(.1)
    expect(planted.bits).toBeCloseTo(1 + 0.1 * Math.log2(0.1) + 0.9 * Math.log2(0.9), 9);
    expect(planted.pValue).toBe(0.001);
    const none = measureLeakage([
      [30, 20],
      [30, 20],
    ]);
    expect([none.inference, none.bits]).toEqual([0.6, expect.closeTo(0, 9)]);
    expect(none.pValue).toBe(1);
  });

  it('counts the victim out, and says what small clusters give by chance', () => {
    const pairs = measureLeakage(new Array(10).fill([1, 1]));
    expect([pairs.inference, pairs.leaveOneOut]).toEqual([0.5, 0]);
    const alone = measureLeakage([
      [1, 0],
      [0, 1],
      [1, 0],
      [0, 1],
    ]);
    // Clusters of one name everybody, and so do any others of this size.
    expect([alone.inference, alone.leaveOneOut, alone.chance, alone.pValue]).toEqual([1, 0, 1, 1]);
    expect(
      measureLeakage([
        [3, 1],
        [0, 0],
        [1, 3],
      ]),
    ).toEqual(
      measureLeakage([
        [3, 1],
        [1, 3],
      ]),
    );
  });
});

describe('plots', () => {
  const slots = {
    sizes: [
      { step: 0, members: [2, 2], released: [1.5, 2.25] },
      { step: 1, members: [3, 1], released: [3.5, 0.25] },
    ],
    byGroup: [
      [2, 1],
      [0, 1],
    ],
  };
  const results = [
    ...[1, 2].flatMap((seed) => [
      made({ seed, mean: 0.7 + seed / 100 }),
      made({ seed, epsilon: 4, mean: 0.8 + seed / 100 }),
      made({ seed, clip: 2, mean: 0.6 }),
      made({ seed, clip: 2, epsilon: 4, mean: 0.65 }),
      { ...made({ seed, algorithm: 'ifca', epsilon: 4, mean: 0.85 }), slots },
      { ...made({ seed, algorithm: 'ifca', epsilon: 1e6, protection: 'none', mean: 0.9 }), privacy: null, slots },
    ]),
    made({ algorithm: 'local', mean: 0.75 }),
  ];
  const files = plotStudy('A <study>', cellsOf(results));
  const textOf = (name: string): string => files.find((file) => file.name === name)?.text ?? '';

  it('are the same bytes whatever the order and the time of the runs', () => {
    expect(files.map(({ name }) => name)).toEqual([
      'index.html',
      'digits-privacy-utility.svg',
      'digits-fairness.svg',
      'digits-heat-fedavg.svg',
      'digits-sizes-ifca-1.svg',
      'digits-sizes-ifca-2.svg',
      'digits-leakage.svg',
    ]);
    const later = results.map((result) => ({ ...result, seconds: 99, versions: { covey: '9', node: '9' } }));
    expect(plotStudy('A <study>', cellsOf(later))).toEqual(files);
  });

  it('need nothing from anywhere and escape what they show', () => {
    for (const { text } of files) {
      expect(text).not.toMatch(/<script|href|url\(|src=|NaN|undefined/);
      expect(text.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:/);
    }
    expect(textOf('index.html')).toContain('A &#60;study&#62;');
  });

  it('draw bands, the runs without noise in a column of their own, and the level of participants alone', () => {
    const curve = textOf('digits-privacy-utility.svg');
    expect(curve.match(/class="band"/g)).toHaveLength(1);
    expect(curve).toContain('>no noise</text>');
    expect(curve).toContain('local 75.0 %');
    // Clip 1 is the better one on average; the caption says that it was chosen.
    expect(textOf('index.html')).toContain('fedavg: clip 1 (best of 2 settings on average)');
    expect(textOf('index.html')).toContain('mean over 2 seeds');
    const heat = textOf('digits-heat-fedavg.svg');
    expect(heat.match(/class="cell"/g)).toHaveLength(4);
    expect(heat).toContain('71.5 %');
  });

  it('show true members as lines and released counts as rings', () => {
    const sizes = textOf('digits-sizes-ifca-1.svg');
    expect(sizes.match(/class="curve"/g)).toHaveLength(2);
    expect(sizes.match(/fill="#fff" stroke=/g)).toHaveLength(4);
  });
});
