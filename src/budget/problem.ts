import { z } from 'zod';
import { CoveyError } from '../../protocol/errors.ts';
import { paddedLength } from '../privacy/hadamard.ts';
import type { SumMechanism, TermKind } from '../privacy/sum-event.ts';

/** How the data are used; what is left out is taken as the safe practice, except tuning runs, which must be stated. */
export interface Practice {
  readonly clipping: 'record' | 'participant';
  /** What gradients of shared layers pass through: nothing else, released values only, or a head trained on raw records. */
  readonly head: 'none' | 'released' | 'raw';
  readonly localEpochs: number;
  readonly standardization: 'public' | 'protected' | 'raw';
  readonly batches: 'poisson' | 'shuffled';
  readonly rowsPerPerson: number;
  /** Runs made to choose hyper-parameters on the same data; undefined if nobody said. */
  readonly tuningRuns?: number | undefined;
}

/**
 * A planning problem: two or more of `epsilon`, `noiseMultiplier`, `rounds`, `participants` and `sampling`, and everything that
 * is fixed. One equation links epsilon, noise, rounds and sampling, so what it does not give is assumed, and said so.
 */
export interface BudgetProblem {
  readonly epsilon?: number | undefined;
  readonly noiseMultiplier?: number | undefined;
  readonly rounds?: number | undefined;
  readonly delta: number;
  readonly unit: 'record' | 'participant';
  /** Invited participants of a round; 12 if nobody says. */
  readonly participants?: number | undefined;
  /** Fewest survivors a round accepts; by default three quarters of the cohort, at least 3. */
  readonly minSurvivors?: number | undefined;
  readonly colluders: number;
  /** Probability of each record in a step (Poisson, inside the organization); 1 if nobody says. */
  readonly sampling?: number | undefined;
  /** Probability of a participant in a round, if anybody wants to claim it; hidden from outsiders at best. */
  readonly cohortSampling: number;
  /** Most rounds that one participant joins; all of them by default. */
  readonly participationCap?: number | undefined;
  /** Number of units (records or participants); for the check of delta. */
  readonly population?: number | undefined;
  /** Parameters of the model; 10,000 if nobody says. */
  readonly parameters?: number | undefined;
  /** Coordinates of the vector of a round, padding included; those of one block of all parameters if nobody says. */
  readonly dimension?: number | undefined;
  /** How the records of a member are summed at unit `record`; `integer` where it is left out. */
  readonly terms?: TermKind | undefined;
  readonly clippingNorm: number;
  readonly scale: number;
  /** Law of the noise shares; discrete Gaussian where it is left out. */
  readonly mechanism?: SumMechanism | undefined;
  /** Noise that is exact whoever drops out: one total, whatever the number of survivors. Needs Skellam noise. */
  readonly xnoise?: boolean | undefined;
  readonly practice: Practice;
}

const count: z.ZodNumber = z.number().int().min(1);

const practice: z.ZodType<Practice> = z.strictObject({
  clipping: z.enum(['record', 'participant']).default('record'),
  head: z.enum(['none', 'released', 'raw']).default('none'),
  localEpochs: count.default(1),
  standardization: z.enum(['public', 'protected', 'raw']).default('public'),
  batches: z.enum(['poisson', 'shuffled']).default('poisson'),
  rowsPerPerson: count.default(1),
  tuningRuns: z.number().int().min(0).optional(),
});

/** Schema of a problem in a configuration file. */
export const budgetProblemSchema: z.ZodType<BudgetProblem> = z.strictObject({
  epsilon: z.number().positive().optional(),
  noiseMultiplier: z.number().positive().optional(),
  rounds: count.max(10_000_000).optional(),
  delta: z.number().gt(0).lt(1).default(1e-5),
  unit: z.enum(['record', 'participant']).default('record'),
  participants: z.number().int().min(3).max(65_536).optional(),
  minSurvivors: z.number().int().min(2).optional(),
  colluders: z.number().int().min(0).default(0),
  sampling: z.number().gt(0).max(1).optional(),
  cohortSampling: z.number().gt(0).max(1).default(1),
  participationCap: count.optional(),
  population: count.optional(),
  parameters: count.max(1_000_000_000).optional(),
  dimension: count.max(2 ** 31).optional(),
  terms: z.enum(['integer', 'float-bounded']).optional(),
  clippingNorm: z.number().positive().default(1),
  scale: z.number().positive().default(65_536),
  mechanism: z.enum(['discrete-gaussian', 'skellam']).optional(),
  xnoise: z.boolean().optional(),
  practice: practice.prefault({}),
});

/** What one has to say two of; the rest is solved or assumed. */
const QUANTITIES = ['epsilon', 'noiseMultiplier', 'rounds', 'participants', 'sampling'] as const;

/** Values that stand in for what neither is given nor follows. */
const ASSUMED = { noiseMultiplier: 1, rounds: 100, participants: 12, sampling: 1 } as const;

export type AssumedQuantity = keyof typeof ASSUMED;

/** Parameters of a model of which nothing is known. */
const ASSUMED_PARAMETERS = 10_000;

/**
 * What a plan knows of the vector of a round. `given`: its coordinates; `parameters`: those of the model, taken as one
 * block, where a run pads each of its blocks by itself; `nothing`: a stand-in.
 */
export type VectorBasis = 'given' | 'parameters' | 'nothing';

/** A problem with every default filled in and the rules between its fields checked. */
export interface CheckedProblem extends BudgetProblem {
  readonly participants: number;
  readonly minSurvivors: number;
  readonly sampling: number;
  readonly parameters: number;
  readonly dimension: number;
  readonly vectorBasis: VectorBasis;
  /** Which of the five quantities are stand-ins. */
  readonly assumed: readonly AssumedQuantity[];
}

/** Stand-ins until two of epsilon, noise multiplier and rounds are known; never for epsilon, which is an output. */
function assumptionsFor(problem: BudgetProblem): AssumedQuantity[] {
  const { epsilon, noiseMultiplier, rounds, participants, sampling } = problem;
  const knows = [epsilon, noiseMultiplier].some((value) => value !== undefined);
  const isOpen = [epsilon, noiseMultiplier, rounds].filter((value) => value !== undefined).length < 2;
  const solvesSampling = epsilon !== undefined && noiseMultiplier !== undefined && rounds !== undefined;
  return [
    ...(knows ? [] : (['noiseMultiplier'] as const)),
    ...(isOpen && rounds === undefined ? (['rounds'] as const) : []),
    ...(participants === undefined ? (['participants'] as const) : []),
    ...(sampling === undefined && !solvesSampling ? (['sampling'] as const) : []),
  ];
}

/** @throws CoveyError USAGE_CONFIG with one line that names the field. */
export function checkProblem(problem: BudgetProblem): CheckedProblem {
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  const given = QUANTITIES.filter((key) => problem[key] !== undefined);
  require(given.length >= 2, `${QUANTITIES.map((key) => `"${key}"`).join(', ')} expected two of them, got ${
    given.length === 0 ? 'none' : `"${given[0]}" only`
  }; hint: covey budget plan --epsilon 4 --rounds 200`);
  const { colluders, unit, population, practice } = problem;
  const isFull = ['epsilon', 'noiseMultiplier', 'rounds'].every((key) => (given as string[]).includes(key));
  require(!isFull ||
    unit === 'record', '"epsilon", "noiseMultiplier", "rounds" expected two of them at unit participant, got 3');
  require(!isFull ||
    problem.sampling ===
      undefined, `"sampling" expected to be left out, since epsilon, noiseMultiplier and rounds determine it, got ${problem.sampling}`);
  require(!isFull ||
    practice.batches === 'poisson', '"practice.batches" expected poisson to solve for the sampling rate');
  const assumed = assumptionsFor(problem);
  const filled = { ...problem, ...Object.fromEntries(assumed.map((key) => [key, ASSUMED[key]])) };
  const { participants = ASSUMED.participants, sampling = ASSUMED.sampling } = filled;
  const minSurvivors = problem.minSurvivors ?? Math.max(3, Math.ceil(participants * 0.75));
  require(minSurvivors <=
    participants, `"minSurvivors" expected at most ${participants} participants, got ${minSurvivors}`);
  // The release view needs a share that no member knows.
  require(minSurvivors >
    Math.max(1, colluders), `"colluders" expected fewer than ${minSurvivors} survivors, got ${colluders}`);
  require(unit === 'record' ||
    sampling === 1, `"sampling" (of records) expected 1 at unit participant, got ${sampling}`);
  require(unit === 'record' ||
    (population ?? participants) >=
      participants, `"population" expected at least ${participants} participants, got ${population}`);
  const { mechanism = 'discrete-gaussian', xnoise } = problem;
  require(xnoise !== true || mechanism === 'skellam', `"xnoise" expected "mechanism" skellam, got ${mechanism}`);
  require(problem.terms !== 'float-bounded' ||
    unit ===
      'record', '"terms" expected integer at unit participant: its one update is rounded within a bound of its own');
  const { parameters = ASSUMED_PARAMETERS, dimension = paddedLength(parameters) } = problem;
  const vectorBasis =
    problem.dimension !== undefined ? 'given' : problem.parameters !== undefined ? 'parameters' : 'nothing';
  return { ...filled, participants, minSurvivors, sampling, parameters, dimension, vectorBasis, assumed };
}
