import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LineChart, lineChart } from '../src/charts/line-chart.ts';
import { niceTicks } from '../src/charts/ticks.ts';

const chart: LineChart = {
  title: 'Loss <over> rounds',
  xLabel: 'Round',
  yLabel: 'ε',
  formatY: String,
  limit: { value: 8, label: 'budget' },
  series: [
    {
      name: 'a & b',
      color: '#000',
      points: [
        [1, 0],
        [2, 3],
        [5, 6],
      ],
    },
    { name: 'single', color: '#111', points: [[3, 3]] },
    { name: 'empty', color: '#222', points: [] },
  ],
};

describe('ticks', () => {
  it.each([
    [0, 8, 5, [0, 2, 4, 6, 8]],
    [0.2, 0.81, 5, [0.2, 0.4, 0.6, 0.8, 1]],
    [1, 16, 8, [0, 2, 4, 6, 8, 10, 12, 14, 16]],
    [3, 3, 5, [3, 4]],
  ])('from %d to %d are round numbers', (low, high, count, expected) => {
    expect(niceTicks(low, high, count)).toEqual(expected);
  });

  it('enclose the data in even steps', () => {
    const value = fc.double({ min: -1e6, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(value, fc.double({ min: 1e-3, max: 1e6, noNaN: true }), (low, span) => {
        const ticks = niceTicks(low, low + span, 5);
        expect(ticks[0]).toBeLessThanOrEqual(low + span * 1e-6);
        expect(ticks.at(-1)).toBeGreaterThanOrEqual(low + span * (1 - 1e-6));
        expect(ticks.length).toBeLessThanOrEqual(12);
      }),
      { seed: 3 },
    );
  });
});

describe('the line chart', () => {
  const svg = lineChart(chart);

  it('is the same text for the same data, with names escaped and without scripts or links', () => {
    expect(lineChart(chart)).toBe(svg);
    expect(svg).toContain('a &#38; b');
    expect(svg).toContain('Loss &#60;over&#62; rounds');
    expect(svg).not.toMatch(/<script|href|url\(|NaN|Infinity/);
  });

  it('draws one path a line, a point for a single value, nothing for none, and the limit', () => {
    expect(svg.match(/<path /g)).toHaveLength(2);
    expect(svg.match(/<circle /g)).toHaveLength(1);
    expect(svg).not.toContain('empty');
    expect(svg).toContain('stroke-dasharray="6 4"');
    expect(svg).toContain('>budget</text>');
  });

  it('places values in proportion: the limit above all points, the first point at the left edge', () => {
    const [first, second, third] = [...svg.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(
      ([, x, y]) => [Number(x), Number(y)] as const,
    );
    expect(first?.[0]).toBe(58);
    expect(((second?.[0] ?? 0) - 58) / ((third?.[0] ?? 0) - 58)).toBeCloseTo(0.25, 3);
    expect((first?.[1] ?? 0) - (second?.[1] ?? 0)).toBeCloseTo((second?.[1] ?? 0) - (third?.[1] ?? 0), 3);
    const limit = Number(/y1="([\d.]+)" y2="\1" stroke="#b42318"/.exec(svg)?.[1]);
    expect(limit).toBeLessThan(third?.[1] ?? 0);
  });

  it('keeps labels at the ends of lines apart', () => {
    const close = { ...chart, limit: { value: 6, label: 'budget' } };
    const ys = [...lineChart(close).matchAll(/class="end" x="[\d.]+" y="([\d.]+)"/g)]
      .map(([, y]) => Number(y))
      .sort((a, b) => a - b);
    expect(ys.slice(1).every((y, i) => y - (ys[i] as number) >= 15)).toBe(true);
  });

  it('has axes without any data', () => {
    expect(lineChart({ ...chart, series: [] })).not.toMatch(/NaN|Infinity/);
  });
});
