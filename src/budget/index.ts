export { plotBudget } from './plots.ts';
export {
  type AssumedQuantity,
  type BudgetProblem,
  budgetProblemSchema,
  type Practice,
  type VectorBasis,
} from './problem.ts';
export { budgetOfRun, type RunBudget } from './run-budget.ts';
export { type BudgetPlan, type Headline, leastCohort, planBudget } from './solve.ts';
export {
  colluderTable,
  dropoutTable,
  type EffectRow,
  epsilonOverDelta,
  epsilonOverRounds,
  groupEpsilon,
  participationTable,
  personEpsilon,
} from './tables.ts';
export { type BudgetWarning, type BudgetWarningName, budgetWarnings } from './warnings.ts';
