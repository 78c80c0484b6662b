import { escapeMarkup, px, spreadLabels } from './svg.ts';
import { niceTicks } from './ticks.ts';

export interface LineSeries {
  readonly name: string;
  readonly color: string;
  /** [x, y] in ascending x. */
  readonly points: readonly (readonly [number, number])[];
  readonly dashed?: boolean;
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly LineSeries[];
  /** A horizontal limit that the lines must not cross. */
  readonly limit?: { readonly value: number; readonly label: string };
  /** Smallest and largest value of the y axis; by default from the data. */
  readonly yRange?: readonly [number, number];
  /** Writes a value of the y axis. */
  formatY(value: number): string;
  /** Writes a tick of the x axis, an integer; as a number by default. */
  formatX?(value: number): string;
}

export const WIDTH = 680;
export const HEIGHT = 300;
const MARGIN = { top: 18, right: 108, bottom: 44, left: 58 };
const LIMIT_COLOR = '#b42318';

interface Scale {
  readonly ticks: readonly number[];
  at(value: number): number;
}

function scale(
  values: readonly number[],
  range: readonly [number, number] | undefined,
  from: number,
  to: number,
  count: number,
): Scale {
  const low = range?.[0] ?? Math.min(...values);
  const high = range?.[1] ?? Math.max(...values);
  const ticks = niceTicks(low, high, count);
  const first = range === undefined ? (ticks[0] as number) : low;
  const last = range === undefined ? (ticks.at(-1) as number) : high;
  const span = last === first ? 1 : last - first;
  return { ticks, at: (value) => from + ((value - first) / span) * (to - from) };
}

/**
 * Draws lines over a common x axis as one SVG element: no scripts, no fonts to load, the same bytes for the same data.
 * Lines are named at their ends; `limit` is a dashed line across the chart.
 */
export function lineChart(chart: LineChart): string {
  const series = chart.series.filter(({ points }) => points.length > 0);
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = [
    ...series.flatMap(({ points }) => points.map(([, y]) => y)),
    ...(chart.limit === undefined ? [] : [chart.limit.value]),
  ];
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = scale(
    xs.length > 0 ? xs : [0, 1],
    xs.length > 0 ? [Math.min(...xs), Math.max(...xs)] : undefined,
    MARGIN.left,
    right,
    8,
  );
  const y = scale(ys.length > 0 ? ys : [0, 1], chart.yRange, bottom, MARGIN.top, 5);
  const parts: string[] = [];
  for (const tick of y.ticks) {
    const at = px(y.at(tick));
    parts.push(`<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${at}" y2="${at}"/>`);
    parts.push(
      `<text class="tick" x="${MARGIN.left - 8}" y="${at}" dy="0.32em" text-anchor="end">${escapeMarkup(chart.formatY(tick))}</text>`,
    );
  }
  for (const tick of x.ticks.filter(Number.isInteger)) {
    const at = px(x.at(tick));
    // Round ticks enclose the data; those outside of the axis are not drawn.
    if (Number(at) < MARGIN.left || Number(at) > right) continue;
    parts.push(`<line class="axis" x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 4}"/>`);
    parts.push(
      `<text class="tick" x="${at}" y="${bottom + 18}" text-anchor="middle">${escapeMarkup(chart.formatX?.(tick) ?? String(tick))}</text>`,
    );
  }
  parts.push(`<line class="axis" x1="${MARGIN.left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`);
  parts.push(
    `<text class="label" x="${px((MARGIN.left + right) / 2)}" y="${HEIGHT - 8}" text-anchor="middle">${escapeMarkup(chart.xLabel)}</text>`,
  );
  const middle = px((MARGIN.top + bottom) / 2);
  parts.push(
    `<text class="label" transform="rotate(-90 14 ${middle})" x="14" y="${middle}" text-anchor="middle">${escapeMarkup(chart.yLabel)}</text>`,
  );
  const ends: { readonly y: number; readonly name: string; readonly color: string }[] = [];
  if (chart.limit !== undefined) {
    const at = y.at(chart.limit.value);
    parts.push(
      `<line x1="${MARGIN.left}" x2="${right}" y1="${px(at)}" y2="${px(at)}" stroke="${LIMIT_COLOR}" stroke-width="1.5" stroke-dasharray="6 4"/>`,
    );
    ends.push({ y: at, name: chart.limit.label, color: LIMIT_COLOR });
  }
  for (const { name, color, points, dashed } of series) {
    const path = points.map(([px0, py0], i) => `${i === 0 ? 'M' : 'L'}${px(x.at(px0))} ${px(y.at(py0))}`).join('');
    const dash = dashed === true ? ' stroke-dasharray="2 3"' : '';
    parts.push(
      `<path d="${path}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round" stroke-linecap="round"${dash}/>`,
    );
    const last = points.at(-1) as readonly [number, number];
    if (points.length === 1)
      parts.push(`<circle cx="${px(x.at(last[0]))}" cy="${px(y.at(last[1]))}" r="3" fill="${color}"/>`);
    ends.push({ y: y.at(last[1]), name, color });
  }
  const labelYs = spreadLabels(ends.map((end) => end.y));
  ends.forEach(({ name, color }, i) => {
    parts.push(
      `<text class="end" x="${right + 8}" y="${px(labelYs[i] as number)}" dy="0.32em" fill="${color}">${escapeMarkup(name)}</text>`,
    );
  });
  const title = escapeMarkup(chart.title);
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}" xmlns="http://www.w3.org/2000/svg"><title>${title}</title>${parts.join('')}</svg>`;
}
