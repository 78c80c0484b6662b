import type { CheckedProblem } from './problem.ts';

/** Names of the classical mistakes. */
export type BudgetWarningName =
  | 'sampling-against-server'
  | 'delta-above-1/n'
  | 'participant-noise-few-participants'
  | 'record-claim-participant-clipping'
  | 'record-claim-raw-head'
  | 'record-claim-local-epochs'
  | 'record-claim-raw-standardization'
  | 'tuning-left-out'
  | 'rows-per-person'
  | 'shuffled-batches';

/** `void`: the epsilon is no claim about what it says; `caution`: it holds, but may mislead. */
export interface BudgetWarning {
  readonly name: BudgetWarningName;
  readonly severity: 'void' | 'caution';
  readonly text: string;
}

interface Rule {
  readonly severity: BudgetWarning['severity'];
  applies(problem: CheckedProblem): boolean;
  text(problem: CheckedProblem): string;
}

/** Below this many participants the noise on the mean drowns one clip of every member. */
const FEW_PARTICIPANTS = 30;

const isRecord = ({ unit }: CheckedProblem): boolean => unit === 'record';

/** Units that the claim is about, as far as they are known: there are at least as many participants as a round invites. */
const unitsOf = ({ unit, participants, population }: CheckedProblem): number =>
  population ?? (unit === 'participant' ? participants : 1);

const RULES: Readonly<Record<BudgetWarningName, Rule>> = {
  'sampling-against-server': {
    severity: 'caution',
    applies: ({ cohortSampling }) => cohortSampling < 1,
    text: ({ cohortSampling }) =>
      `the server knows who takes part, so drawing a cohort (${cohortSampling}) lowers the release view only, and only if the cohort stays secret`,
  },
  'delta-above-1/n': {
    severity: 'caution',
    applies: (problem) => problem.delta * unitsOf(problem) > 1,
    text: (problem) =>
      `delta ${problem.delta} is above 1/n = ${(1 / unitsOf(problem)).toPrecision(3)}: it would allow publishing whole ${problem.unit}s; take at most a tenth of 1/n`,
  },
  'participant-noise-few-participants': {
    severity: 'caution',
    applies: ({ unit, participants }) => unit === 'participant' && participants < FEW_PARTICIPANTS,
    text: ({ participants }) =>
      `${participants} participants cannot hide one of their own: hundreds are needed; with a few organizations protect records (unit record)`,
  },
  'record-claim-participant-clipping': {
    severity: 'void',
    applies: (problem) => isRecord(problem) && problem.practice.clipping === 'participant',
    text: () =>
      'clipping the whole update bounds a participant: one record can turn it around (2C, not C); clip every record, or claim unit participant',
  },
  'record-claim-raw-head': {
    severity: 'void',
    applies: (problem) => isRecord(problem) && problem.practice.head === 'raw',
    text: () =>
      'gradients through a head trained on raw records depend on every record (measured: 7 to 72 clips): use released heads only, or unit participant',
  },
  'record-claim-local-epochs': {
    severity: 'void',
    applies: (problem) => isRecord(problem) && problem.practice.localEpochs > 1,
    text: ({ practice }) =>
      `${practice.localEpochs} local epochs let a record move the terms of all others: one gradient step a release, or unit participant`,
  },
  'record-claim-raw-standardization': {
    severity: 'void',
    applies: (problem) => isRecord(problem) && problem.practice.standardization === 'raw',
    text: () =>
      'mean and deviation of the raw data let a record move the terms of all others: use public ranges or a protected, charged sum',
  },
  'tuning-left-out': {
    severity: 'caution',
    applies: ({ practice }) => practice.tuningRuns === undefined,
    text: () =>
      'every tuning run on the same data is paid in full in the server view: state their number (--tuning-runs 0 if there are none)',
  },
  'rows-per-person': {
    severity: 'caution',
    applies: (problem) => isRecord(problem) && problem.practice.rowsPerPerson > 1,
    text: ({ practice }) =>
      `a person may own ${practice.rowsPerPerson} rows: the epsilon protects one row; see the claim per person`,
  },
  'shuffled-batches': {
    severity: 'caution',
    applies: (problem) => problem.practice.batches === 'shuffled' && problem.sampling < 1,
    text: ({ sampling }) =>
      `shuffled batches are no Poisson sample: the sampling rate ${sampling} amplifies nothing and is counted as 1`,
  },
};

/** Classical mistakes that a problem makes, those that void the claim first. */
export function budgetWarnings(problem: CheckedProblem): BudgetWarning[] {
  const rules = Object.entries(RULES) as [BudgetWarningName, Rule][];
  return rules
    .filter(([, rule]) => rule.applies(problem))
    .map(([name, rule]) => ({ name, severity: rule.severity, text: rule.text(problem) }))
    .sort((a, b) => Number(b.severity === 'void') - Number(a.severity === 'void'));
}
