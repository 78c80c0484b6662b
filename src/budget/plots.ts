import { chartFigure } from '../charts/figure.ts';
import type { LineSeries } from '../charts/line-chart.ts';
import type { BudgetPlan } from './solve.ts';
import { type EffectRow, epsilonOverDelta, epsilonOverRounds } from './tables.ts';

const VIEWS = [
  { key: 'server', name: 'server view', color: '#1f5fbf', dashed: false },
  { key: 'release', name: 'release view', color: '#b25e09', dashed: true },
] as const;

const seriesOf = (rows: readonly EffectRow[]): LineSeries[] =>
  VIEWS.map(({ key, ...style }) => ({
    ...style,
    points: rows.map((row) => [row.value, row[key]] as const).filter(([, y]) => Number.isFinite(y)),
  }));

const formatEpsilon = (value: number): string => String(Number(value.toPrecision(3)));

/** Epsilon over rounds and epsilon over delta, both views, as one SVG file. */
export function plotBudget(plan: BudgetPlan): string {
  const { epsilon, delta, unit } = plan.problem;
  const limit = epsilon === undefined ? {} : { limit: { value: epsilon, label: `budget ${formatEpsilon(epsilon)}` } };
  return chartFigure([
    {
      title: `Epsilon charged to one ${unit} over rounds (delta ${delta.toExponential()})`,
      xLabel: 'rounds',
      yLabel: 'epsilon',
      formatY: formatEpsilon,
      series: seriesOf([{ value: 0, server: 0, release: 0 }, ...epsilonOverRounds(plan)]),
      ...limit,
    },
    {
      title: `Epsilon charged over delta after ${plan.rounds} ${plan.rounds === 1 ? 'round' : 'rounds'}`,
      xLabel: 'delta',
      yLabel: 'epsilon',
      formatY: formatEpsilon,
      formatX: (power) => `1e${power}`,
      series: seriesOf(epsilonOverDelta(plan)),
    },
  ]);
}
