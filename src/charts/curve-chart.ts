import type { Drawing } from './figure.ts';
import { escapeMarkup, px, spreadLabels } from './svg.ts';
import { niceTicks } from './ticks.ts';

/** A measured value and its interval. `x` Infinity: the column at the right end, which `farLabel` names. */
export interface CurvePoint {
  readonly x: number;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
}

export interface CurveSeries {
  readonly name: string;
  readonly points: readonly CurvePoint[];
  /** Colour and marker by number; the place among the series if absent. */
  readonly style?: number;
  /** Markers alone, without line and label. */
  readonly isDots?: true;
}

/** Curves with bands over a linear or logarithmic axis; `references` are levels across the whole chart. */
export interface CurveChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly logarithmic?: true;
  readonly farLabel?: string;
  readonly series: readonly CurveSeries[];
  readonly references?: readonly { readonly name: string; readonly y: number }[];
  /** The y axis begins there. */
  readonly yFrom?: number;
  /** Values that cannot be passed: bands are cut there. */
  readonly yBounds?: readonly [number, number];
  formatX(value: number): string;
  formatY(value: number): string;
}

const WIDTH = 760;
const HEIGHT = 360;
const MARGIN = { top: 16, right: 190, bottom: 48, left: 74 };
/** Column of the values at infinity, and what parts it from the axis. */
const FAR = { width: 56, gap: 22 };
/** Least distance of two measured values that are both written below the axis. */
const LEAST_TICK_GAP = 32;
const REFERENCE_COLOR = '#5b6675';

/** Hues of Okabe and Ito (2008), darkened until text in them reads on white. */
const COLORS = ['#0067a3', '#b3470a', '#00725a', '#a3457c', '#7a5c00', '#3b3f8f', '#2f3b47', '#a01f1f'];

/** A mark that can be told apart without its colour. */
function marker(style: number, x: number, y: number, color: string): string {
  const at = (dx: number, dy: number): string => `${px(x + dx)} ${px(y + dy)}`;
  const shape = (d: string): string => `<path class="mark" d="${d}" fill="${color}"/>`;
  switch (style % 4) {
    case 0:
      return `<circle class="mark" cx="${px(x)}" cy="${px(y)}" r="3.6" fill="${color}"/>`;
    case 1:
      return shape(`M${at(-3.4, -3.4)}L${at(3.4, -3.4)}L${at(3.4, 3.4)}L${at(-3.4, 3.4)}Z`);
    case 2:
      return shape(`M${at(0, -4.6)}L${at(4.4, 3.4)}L${at(-4.4, 3.4)}Z`);
    default:
      return shape(`M${at(0, -5)}L${at(5, 0)}L${at(0, 5)}L${at(-5, 0)}Z`);
  }
}

/** Values 1, 2, 5 times a power of ten in [low, high]; powers alone over more than three decades. */
function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const factors = last - first > 4 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = first; power <= last; power++)
    for (const factor of factors) {
      const value = Number(`${factor}e${power}`);
      // A calibrated epsilon ends a little below its target.
      if (value >= low * (1 - 1e-3) && value <= high * (1 + 1e-3)) ticks.push(value);
    }
  return ticks;
}

interface Axis {
  readonly ticks: readonly number[];
  at(value: number): number;
}

function xAxis(values: readonly number[], logarithmic: boolean, from: number, to: number): Axis {
  const finite = values.filter(Number.isFinite);
  const low = finite.length === 0 ? 1 : Math.min(...finite);
  const high = finite.length === 0 ? 1 : Math.max(...finite);
  // Markers of the first and last value keep off the frame.
  const [left, right] = [from + 12, to - 12];
  // Values that read the same are one place: two calibrated epsilons differ in their last digits.
  const shown = Number(low.toPrecision(3));
  if (shown === Number(high.toPrecision(3)))
    return { ticks: finite.length === 0 ? [] : [shown], at: () => (left + right) / 2 };
  const place = logarithmic ? Math.log : (value: number): number => value;
  const at = (value: number): number =>
    left + ((place(value) - place(low)) / (place(high) - place(low))) * (right - left);
  // A grid of few values is best read at these values.
  const measured = [...new Set(finite.map((value) => Number(value.toPrecision(3))))].sort((a, b) => a - b);
  const isSparse = measured.every((value, i) => i === 0 || at(value) - at(measured[i - 1] as number) >= LEAST_TICK_GAP);
  const ticks = !logarithmic
    ? niceTicks(low, high, 8).filter((tick) => tick >= low && tick <= high)
    : isSparse
      ? measured
      : logTicks(low, high);
  return { ticks, at };
}

function clamp(value: number, bounds: readonly [number, number] | undefined): number {
  return bounds === undefined ? value : Math.min(bounds[1], Math.max(bounds[0], value));
}

/** Draws the chart: no scripts, no fonts to load, the same bytes for the same data. */
export function curveChart(chart: CurveChart): Drawing {
  const { references = [], yBounds } = chart;
  const series = chart.series
    // A logarithmic axis has no place for zero.
    .map((one, i) => ({
      ...one,
      style: one.style ?? i,
      points: one.points.filter(({ x }) => chart.logarithmic !== true || x > 0),
    }))
    .filter(({ points }) => points.length > 0);
  const points = series.flatMap((one) => one.points);
  const isFar = points.some(({ x }) => x === Number.POSITIVE_INFINITY);
  const right = WIDTH - MARGIN.right;
  const axisEnd = isFar ? right - FAR.width - FAR.gap : right;
  const far = right - FAR.width / 2;
  const bottom = HEIGHT - MARGIN.bottom;
  const axis = xAxis(
    points.map(({ x }) => x),
    chart.logarithmic === true,
    MARGIN.left,
    axisEnd,
  );
  const xOf = (x: number): number => (x === Number.POSITIVE_INFINITY ? far : axis.at(x));
  const ys = [
    ...points.flatMap(({ y, low = y, high = y }) => [y, clamp(low, yBounds), clamp(high, yBounds)]),
    ...references.map(({ y }) => y),
    ...(chart.yFrom === undefined ? [] : [chart.yFrom]),
  ];
  const yTicks = ys.length === 0 ? [0, 1] : niceTicks(Math.min(...ys), Math.max(...ys), 6);
  const [yLow, yHigh] = [yTicks[0] as number, yTicks.at(-1) as number];
  const yOf = (y: number): number => bottom - ((y - yLow) / (yHigh - yLow)) * (bottom - MARGIN.top);
  const text = (kind: string, x: number, y: number, anchor: string, content: string, more = ''): string =>
    `<text class="${kind}" x="${px(x)}" y="${px(y)}" text-anchor="${anchor}"${more}>${escapeMarkup(content)}</text>`;
  const parts: string[] = [];
  for (const tick of yTicks) {
    const at = px(yOf(tick));
    parts.push(`<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${at}" y2="${at}"/>`);
    parts.push(text('tick', MARGIN.left - 8, yOf(tick), 'end', chart.formatY(tick), ' dy="0.32em"'));
  }
  const hasAxis = points.some(({ x }) => Number.isFinite(x));
  if (hasAxis) {
    parts.push(`<line class="axis" x1="${MARGIN.left}" x2="${axisEnd}" y1="${bottom}" y2="${bottom}"/>`);
    for (const tick of axis.ticks) {
      const at = px(axis.at(tick));
      parts.push(`<line class="axis" x1="${at}" x2="${at}" y1="${bottom}" y2="${bottom + 4}"/>`);
      parts.push(text('tick', axis.at(tick), bottom + 18, 'middle', chart.formatX(tick)));
    }
  }
  if (isFar) {
    parts.push(`<line class="axis" x1="${right - FAR.width}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`);
    parts.push(text('tick', far, bottom + 18, 'middle', chart.farLabel ?? ''));
  }
  parts.push(text('label', (MARGIN.left + axisEnd) / 2, HEIGHT - 8, 'middle', chart.xLabel));
  const middle = (MARGIN.top + bottom) / 2;
  parts.push(text('label', 14, middle, 'middle', chart.yLabel, ` transform="rotate(-90 14 ${px(middle)})"`));
  const ends: { readonly y: number; readonly name: string; readonly color: string }[] = [];
  for (const { name, y } of references) {
    parts.push(
      `<line class="reference" x1="${MARGIN.left}" x2="${right}" y1="${px(yOf(y))}" y2="${px(yOf(y))}" stroke="${REFERENCE_COLOR}" stroke-width="1.5" stroke-dasharray="6 4"/>`,
    );
    ends.push({ y: yOf(y), name, color: REFERENCE_COLOR });
  }
  const drawn = series.map((one) => ({
    ...one,
    color: COLORS[one.style % COLORS.length] as string,
    points: [...one.points].sort((a, b) => a.x - b.x),
  }));
  // Bands below all lines, lines below all marks.
  for (const { points: own, color } of drawn) {
    const banded = own.filter(({ x, low }) => Number.isFinite(x) && low !== undefined);
    if (banded.length < 2) continue;
    const upper = banded.map(({ x, y, high = y }) => `${px(axis.at(x))} ${px(yOf(clamp(high, yBounds)))}`);
    const lower = banded.map(({ x, y, low = y }) => `${px(axis.at(x))} ${px(yOf(clamp(low, yBounds)))}`).reverse();
    parts.push(`<path class="band" d="M${[...upper, ...lower].join('L')}Z" fill="${color}" fill-opacity="0.13"/>`);
  }
  for (const { points: own, color, isDots } of drawn) {
    const line = own.filter(({ x }) => Number.isFinite(x));
    if (isDots === true || line.length < 2) continue;
    const path = line.map(({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${px(axis.at(x))} ${px(yOf(y))}`).join('');
    parts.push(
      `<path class="curve" d="${path}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round"/>`,
    );
  }
  drawn.forEach(({ points: own, color, style, isDots, name }, i) => {
    for (const { x, y, low, high } of own) {
      // What no band shows: intervals at infinity and of single values.
      const isAlone = x === Number.POSITIVE_INFINITY || own.filter((point) => Number.isFinite(point.x)).length < 2;
      // Intervals of several series at one place stand side by side.
      const at =
        xOf(x) + (isAlone && isDots !== true ? (i - (drawn.length - 1) / 2) * Math.min(7, 44 / drawn.length) : 0);
      if (isAlone && low !== undefined && high !== undefined)
        parts.push(
          `<line class="whisker" x1="${px(at)}" x2="${px(at)}" y1="${px(yOf(clamp(low, yBounds)))}" y2="${px(yOf(clamp(high, yBounds)))}" stroke="${color}" stroke-width="1.5"/>`,
        );
      if (isDots === true)
        parts.push(
          `<circle class="mark" cx="${px(at)}" cy="${px(yOf(y))}" r="3" fill="#fff" stroke="${color}" stroke-width="1.3"/>`,
        );
      else parts.push(marker(style, at, yOf(y), color));
    }
    if (isDots !== true) ends.push({ y: yOf((own.at(-1) as CurvePoint).y), name, color });
  });
  const labelYs = spreadLabels(
    ends.map(({ y }) => y),
    bottom,
  );
  ends.forEach(({ name, color }, i) => {
    const y = labelYs[i] as number;
    parts.push(
      `<text class="end" x="${right + 10}" y="${px(y)}" dy="0.32em" fill="${color}">${escapeMarkup(name)}</text>`,
    );
  });
  const title = escapeMarkup(chart.title);
  const svg = `<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}" xmlns="http://www.w3.org/2000/svg"><title>${title}</title>${parts.join('')}</svg>`;
  return { title: chart.title, svg, width: WIDTH, height: HEIGHT };
}
