import { type CurveChart, type CurvePoint, curveChart } from '../../src/charts/curve-chart.ts';
import type { Drawing } from '../../src/charts/figure.ts';
import { heatMap } from '../../src/charts/heat-map.ts';
import {
  type Axis,
  byEpsilon,
  type Cell,
  describeSettings,
  epsilonOf,
  METRICS,
  type Metric,
  measure,
  varyingAxes,
} from './cells.ts';
import { type Estimate, estimateMean } from './interval.ts';
import { measureLeakage } from './leakage.ts';

/** A drawing, the name of its file and what a reader has to know. */
export interface Figure {
  readonly name: string;
  readonly drawing: Drawing;
  readonly caption: string;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
/** On an axis of round numbers. */
const roundPercent = (share: number): string => `${Number((100 * share).toFixed(1))} %`;
const short = (value: number): string => String(Number(value.toPrecision(3)));
const ACCURACY = { yBounds: [0, 1] as const, formatY: roundPercent };
const EPSILON_AXIS = {
  xLabel: 'ε, server view (logarithmic)',
  logarithmic: true,
  farLabel: 'no noise',
  formatX: short,
} as const;

function pointOf(x: number, { mean, halfWidth }: Estimate): CurvePoint {
  return halfWidth === null ? { x, y: mean } : { x, y: mean, low: mean - halfWidth, high: mean + halfWidth };
}

const isLocal = ({ settings }: Cell): boolean => settings.algorithm === 'local';

/** Numbers of runs behind the points, in words. */
function runsText(cells: readonly Cell[]): string {
  const counts = cells.map(({ runs }) => runs.length);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  if (most === 1) return 'one seed a point, no interval';
  const seeds = least === most ? `${most}` : `${least} to ${most}`;
  return `mean over ${seeds} seeds; bands and whiskers: 95 % confidence interval of the mean (Student's t)`;
}

/** Axes that give a line of its own; along the others the line keeps one value. */
const LINE_AXES: readonly Axis[] = ['algorithm', 'mode', 'dropouts', 'unit'];

/** The cells of one line: of every algorithm and mode, the other settings that are best on average over its targets. */
function linesOf(
  cells: readonly Cell[],
  metric: Metric,
): { readonly name: string; readonly cells: Cell[]; readonly alternatives: number }[] {
  const varying = varyingAxes(cells);
  const named = LINE_AXES.filter((axis) => varying.includes(axis));
  const groups = new Map<string, Cell[]>();
  for (const cell of cells) {
    const name = describeSettings(cell, named) || cell.settings.algorithm;
    groups.set(name, [...(groups.get(name) ?? []), cell]);
  }
  return [...groups].map(([name, members]) => {
    const curves = [...new Set(members.map(({ curve }) => curve))].map((curve) =>
      members.filter((cell) => cell.curve === curve),
    );
    const most = Math.max(...curves.map(({ length }) => length));
    // A line with fewer targets would win by having only the easy ones.
    const full = curves.filter(({ length }) => length === most);
    const scoreOf = (line: readonly Cell[]): number =>
      estimateMean(line.map((cell) => measure(cell, metric)?.mean ?? 0)).mean;
    const best = full.reduce((top, line) => (scoreOf(line) > scoreOf(top) ? line : top));
    return { name, cells: best, alternatives: curves.length };
  });
}

/** What the lines keep constant, for the caption. */
function heldText(lines: ReturnType<typeof linesOf>, cells: readonly Cell[]): string {
  const axes = varyingAxes(cells).filter((axis) => !LINE_AXES.includes(axis));
  const parts = lines.flatMap(({ name, cells: [first], alternatives }) => {
    if (alternatives < 2 || first === undefined) return [];
    return [`${name}: ${describeSettings(first, axes)} (best of ${alternatives} settings on average)`];
  });
  return parts.length === 0 ? '' : ` ${parts.join('; ')}.`;
}

function tradeOff(scenario: string, cells: readonly Cell[], metric: Metric, name: string): Figure | null {
  const federated = cells.filter((cell) => !isLocal(cell) && measure(cell, metric) !== null);
  if (federated.length === 0) return null;
  const lines = linesOf(federated, metric);
  const local = cells.filter(isLocal).flatMap((cell) => measure(cell, metric) ?? []);
  const [first] = local;
  const { title } = METRICS[metric];
  const chart: CurveChart = {
    title: `${scenario}: ${title} against privacy loss`,
    yLabel: title,
    ...EPSILON_AXIS,
    ...ACCURACY,
    series: lines.map(({ name: line, cells: own }) => ({
      name: line,
      points: own.flatMap((cell) => {
        const value = measure(cell, metric);
        return value === null ? [] : [pointOf(epsilonOf(cell, 'server'), value)];
      }),
    })),
    references: first === undefined ? [] : [{ name: `local ${percent(first.mean)}`, y: first.mean }],
  };
  return {
    name,
    drawing: curveChart(chart),
    caption: `Last round, ${runsText(federated)}.${heldText(lines, federated)}${first === undefined ? '' : ' Dashed: every participant alone, which costs no privacy.'}`,
  };
}

/** Axes of a heat map beside epsilon, in order of preference. */
const HEAT_AXES: readonly Axis[] = [
  'clip',
  'slots',
  'rounds',
  'cohort',
  'dropouts',
  'sampling',
  'step',
  'mode',
  'algorithm',
];

function heatMaps(scenario: string, cells: readonly Cell[]): Figure[] {
  const federated = cells.filter((cell) => !isLocal(cell));
  const varying = varyingAxes(federated);
  const axis = HEAT_AXES.find((one) => varying.includes(one));
  if (axis === undefined) return [];
  const algorithms = axis === 'algorithm' ? [null] : [...new Set(federated.map(({ settings }) => settings.algorithm))];
  return algorithms.flatMap((algorithm) => {
    const own = federated.filter(
      ({ settings }) => (algorithm === null || settings.algorithm === algorithm) && settings[axis] !== undefined,
    );
    const text = ({ settings }: Cell): string => settings[axis] ?? '';
    const rows = [...new Set(own.map(text))].sort(
      (a, b) => Number.parseFloat(a) - Number.parseFloat(b) || (a < b ? -1 : 1),
    );
    const column = (cell: Cell): number => Number(epsilonOf(cell, 'server').toPrecision(3));
    const columns = [...new Set(own.map(column))].sort((a, b) => a - b);
    if (rows.length < 2 || columns.length < 2) return [];
    const others = varying.filter(
      (one) => one !== axis && one !== 'algorithm' && new Set(own.map(({ settings }) => settings[one])).size > 1,
    );
    const values = rows.map((row) =>
      columns.map((epsilon) => {
        const found = own.filter((cell) => text(cell) === row && column(cell) === epsilon);
        const means = found.flatMap((cell) => measure(cell, 'mean')?.mean ?? []);
        return means.length === 0 ? null : Math.max(...means);
      }),
    );
    const drawing = heatMap({
      title: `${scenario}: mean accuracy of ${algorithm ?? 'the algorithms'} by ${axis} and ε`,
      xLabel: 'ε, server view',
      yLabel: axis,
      columns: columns.map((epsilon) => (epsilon === Number.POSITIVE_INFINITY ? 'no noise' : short(epsilon))),
      rows,
      values,
      valueLabel: 'mean accuracy',
      format: percent,
    });
    const best = others.length === 0 ? '' : ` Best value over ${others.join(', ')}.`;
    return [
      {
        name: `heat-${algorithm ?? 'algorithms'}`,
        drawing,
        caption: `Last round, ${runsText(own).replace(/;.*$/, '')}.${best}`,
      },
    ];
  });
}

/** Sizes of slots over the rounds, of the first seed: what members know (lines) and what was released (dots). */
function sizeCharts(scenario: string, cells: readonly Cell[]): Figure[] {
  const clustered = cells.filter(({ runs }) => (runs[0]?.slots?.sizes.length ?? 0) > 1);
  const figures = [...new Set(clustered.map(({ settings }) => settings.algorithm))].flatMap((algorithm) => {
    const own = clustered.filter(({ settings }) => settings.algorithm === algorithm);
    const sorted = own.toSorted(byEpsilon);
    const shown = [...new Set([sorted[0], sorted.at(-1)])].flatMap((cell) => cell ?? []);
    return shown.map((cell, i): Figure => {
      const run = cell.runs[0];
      const sizes = run?.slots?.sizes ?? [];
      const slots = sizes[0]?.members.length ?? 0;
      const numbers = Array.from({ length: slots }, (_, slot) => slot);
      const epsilon = epsilonOf(cell, 'server');
      const noise = Number.isFinite(epsilon) ? `ε ${short(epsilon)}` : 'no noise';
      return {
        name: `sizes-${algorithm}-${i + 1}`,
        drawing: curveChart({
          title: `${scenario}: members of the slots of ${algorithm}, ${noise}`,
          xLabel: 'training step',
          yLabel: 'members',
          yFrom: 0,
          formatX: String,
          formatY: short,
          series: [
            ...numbers.map((slot) => ({
              name: `slot ${slot + 1}`,
              style: slot,
              points: sizes.map(({ step, members }) => ({ x: step, y: members[slot] ?? 0 })),
            })),
            ...numbers.map((slot) => ({
              name: `slot ${slot + 1}`,
              style: slot,
              isDots: true as const,
              points: sizes.map(({ step, released }) => ({ x: step, y: released[slot] ?? 0 })),
            })),
          ],
        }),
        caption: `Seed ${run?.seed}, ${describeSettings(cell, ['slots', 'clip', 'cohort', 'mode'])}. Lines: true members, known to the simulation alone. Rings: noisy counts that were released and charged.`,
      };
    });
  });
  return figures;
}

/** Attribute inference from memberships against epsilon, a curve for each K. */
function leakageChart(scenario: string, cells: readonly Cell[]): Figure | null {
  const known = cells.filter(({ runs }) => runs.every(({ slots }) => (slots?.byGroup ?? null) !== null));
  if (known.length === 0) return null;
  const varying = varyingAxes(known);
  const names = [...new Set(known.map((cell) => describeSettings(cell, varying) || cell.settings.algorithm))];
  const leaks = known.map((cell) => ({
    cell,
    leaks: cell.runs.flatMap(({ slots }) => (slots?.byGroup ? [measureLeakage(slots.byGroup)] : [])),
  }));
  const majority = estimateMean(leaks.flatMap((one) => one.leaks.map((leak) => leak.majority))).mean;
  return {
    name: 'leakage',
    drawing: curveChart({
      title: `${scenario}: attribute of a member guessed from its cluster`,
      yLabel: 'right guesses',
      ...EPSILON_AXIS,
      ...ACCURACY,
      series: names.map((name) => ({
        name,
        points: leaks
          .filter(({ cell }) => (describeSettings(cell, varying) || cell.settings.algorithm) === name)
          .map((one) =>
            pointOf(epsilonOf(one.cell, 'server'), estimateMean(one.leaks.map((leak) => leak.leaveOneOut))),
          ),
      })),
      references: [{ name: `majority ${percent(majority)}`, y: majority }],
    }),
    caption: `Somebody who sees the memberships (mode open) and knows the group of all others guesses the commonest group of the victim's cluster; ${runsText(known)}. ε bounds what the released models tell, not what open memberships tell.`,
  };
}

/** Every figure that the cells of one scenario can give. */
export function figuresOf(scenario: string, cells: readonly Cell[]): Figure[] {
  return [
    ...[tradeOff(scenario, cells, 'mean', 'privacy-utility'), tradeOff(scenario, cells, 'worst', 'fairness')],
    ...heatMaps(scenario, cells),
    ...sizeCharts(scenario, cells),
    leakageChart(scenario, cells),
  ].flatMap((figure) => figure ?? []);
}
