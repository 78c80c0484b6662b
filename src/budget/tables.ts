import { CoveyError } from '../../protocol/errors.ts';
import { type Accountant, rdpAccountant } from '../privacy/accountant.ts';
import { type BudgetPlan, paidRounds, roundEvents, viewEpsilons } from './solve.ts';

/** One row of a table of effects: what ledgers charge in both views under another circumstance. */
export interface EffectRow {
  readonly value: number;
  readonly server: number;
  readonly release: number;
}

const distinct = (values: readonly number[]): number[] => [...new Set(values)].sort((a, b) => a - b);

/** Numbers of survivors from all present down to the fewest accepted. */
export function spreadSurvivors(present: number, minSurvivors: number): number[] {
  const between = [0, 0.25, 0.5, 0.75, 1].map((part) => Math.round(present - part * (present - minSurvivors)));
  return distinct(between).reverse();
}

/** Epsilon by survivors of every round: from all present down to the fewest accepted. @see privacy F18 */
export function dropoutTable(plan: BudgetPlan): EffectRow[] {
  const { participants, minSurvivors } = plan.problem;
  return spreadSurvivors(participants, minSurvivors).map((value) => ({
    value,
    ...viewEpsilons(plan, plan.rounds, value),
  }));
}

/** Epsilon if more or fewer members collude than the noise was made for; the shares stay as planned. */
export function colluderTable(plan: BudgetPlan): EffectRow[] {
  const { minSurvivors, colluders } = plan.problem;
  const most = minSurvivors - 2;
  const values = distinct([0, 1, colluders, Math.floor(most / 4), Math.floor(most / 2), most]);
  return values
    .filter((value) => value >= 0 && value <= most)
    .map((value) => {
      const problem = { ...plan.problem, colluders: value };
      return { value, ...viewEpsilons({ ...plan, problem }, plan.rounds) };
    });
}

/** Epsilon by the most rounds that a participant joins. */
export function participationTable(plan: BudgetPlan): EffectRow[] {
  const caps = distinct([1, 0.1, 0.25, 0.5].map((part) => Math.max(1, Math.round(part * plan.rounds))));
  return caps.map((value) => {
    const problem = { ...plan.problem, participationCap: value };
    return { value, ...viewEpsilons({ ...plan, problem }, plan.rounds) };
  });
}

/**
 * Epsilon of a person who owns up to `rows` records, from any (epsilon, delta) curve of one record: e' = rows * e and
 * delta' = delta (e^{rows e} - 1) / (e^e - 1). Finds the least by bisection over the delta of a record.
 * @see Vadhan 2017, Lemma 2.2
 */
export function groupEpsilon(accountant: Accountant, rows: number, delta: number): number {
  if (!Number.isSafeInteger(rows) || rows < 1)
    throw new CoveyError('USAGE_RANGE', `"rows" expected an integer >= 1, got ${rows}`);
  if (rows === 1) return accountant.epsilon(delta);
  // log((e^{m e} - 1)/(e^e - 1)) without overflow; m at e = 0.
  const logFactor = (epsilon: number): number =>
    epsilon === 0
      ? Math.log(rows)
      : (rows - 1) * epsilon + Math.log(-Math.expm1(-rows * epsilon)) - Math.log(-Math.expm1(-epsilon));
  let [low, high] = [Math.log(delta) - 650, Math.log(delta)];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (middle + logFactor(accountant.epsilon(Math.exp(middle))) <= Math.log(delta)) low = middle;
    else high = middle;
  }
  const epsilon = accountant.epsilon(Math.exp(low));
  return low + logFactor(epsilon) <= Math.log(delta) ? rows * epsilon : Number.POSITIVE_INFINITY;
}

/** Epsilon of a person with the most rows that the problem allows, server view. */
export function personEpsilon(plan: BudgetPlan): number {
  const { problem, relation, rounds } = plan;
  const spent = rdpAccountant({ relation }).compose(roundEvents(plan).server, paidRounds(problem, rounds));
  // Everything of a participant is one unit already.
  return groupEpsilon(spent, problem.unit === 'record' ? problem.practice.rowsPerPerson : 1, problem.delta);
}

/** Points of epsilon over rounds, both views. */
export function epsilonOverRounds(plan: BudgetPlan, points = 40): EffectRow[] {
  const at = (part: number): number => Math.max(1, Math.round(part * plan.rounds));
  // The curve is steepest at its start, and bends where a participant reaches its cap.
  const cap = Math.min(plan.problem.participationCap ?? plan.rounds, plan.rounds);
  const early = [1, at(0.002), at(0.005), at(0.01)];
  const rounds = distinct([...early, cap, ...Array.from({ length: points }, (_, i) => at((i + 1) / points))]);
  return rounds.map((value) => ({ value, ...viewEpsilons(plan, value) }));
}

/** Points of epsilon over log10(delta), both views. */
export function epsilonOverDelta(plan: BudgetPlan): EffectRow[] {
  return Array.from({ length: 10 }, (_, i) => -12 + i).map((value) => ({
    value,
    ...viewEpsilons({ ...plan, problem: { ...plan.problem, delta: 10 ** value } }, plan.rounds),
  }));
}
