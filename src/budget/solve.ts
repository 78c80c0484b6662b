import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { type Accountant, rdpAccountant, zcdpAccountant } from '../privacy/accountant.ts';
import { calibrateNoiseMultiplier } from '../privacy/calibrate.ts';
import type { DpEvent, Relation } from '../privacy/events.ts';
import { shareVariance } from '../privacy/noise-shares.ts';
import { pldAccountant } from '../privacy/pld.ts';
import { type SumTerms, sumEvent, unitSensitivity } from '../privacy/sum-event.ts';
import { VIEWS, type View } from '../privacy/views.ts';
import { type BudgetProblem, type CheckedProblem, checkProblem } from './problem.ts';

/**
 * The claim to publish for a schedule that is declared in advance: so many rounds, each with at least the planned noise.
 * It holds for a run that keeps to the declaration, whatever its releases make it do within it, and is no filter: what a
 * run may spend is limited in the accountant of the gate (privacy F22).
 */
export interface Headline extends Readonly<Record<View, number>> {
  readonly accountant: string;
  /** What the numbers assume, to be printed beside them. */
  readonly labels: readonly string[];
}

/** A plan with every unknown filled in, at the problem's delta. */
export interface BudgetPlan {
  readonly problem: CheckedProblem;
  readonly solved: 'noiseMultiplier' | 'rounds' | 'epsilon' | 'sampling';
  readonly noiseMultiplier: number;
  readonly rounds: number;
  /** Probability of a record that amplifies: 1 where batches are shuffled. */
  readonly sampling: number;
  readonly relation: Relation;
  readonly sensitivity: number;
  readonly shareVariance: number;
  readonly headline: Headline;
  /** What ledgers charge and gates limit, by view; the unknown is solved in the server view of it. */
  readonly server: number;
  readonly release: number;
  /** Numbers of other accountants: for planning, neither claim nor gate. Null where one cannot bound the events. */
  readonly planning: readonly { readonly accountant: string; readonly view: View; readonly epsilon: number | null }[];
}

/** The accountant of ledgers and gates: valid for runs that adapt to their releases. */
const gateAccountant = (relation: Relation): Accountant => rdpAccountant({ relation });

/** The one place where a further accountant becomes a planning number: it appears beside the headline, labelled. */
const PLANNING: readonly { readonly name: string; create(relation: Relation): Accountant }[] = [
  { name: 'zcdp', create: (relation) => zcdpAccountant({ relation }) },
];

const MAX_ROUNDS = 2 ** 40;

function amplifying({ practice, sampling }: CheckedProblem): number {
  // A shuffled epoch is not a Poisson draw: nothing may be claimed for it.
  return practice.batches === 'poisson' ? sampling : 1;
}

export function relationOf({ unit }: BudgetProblem): Relation {
  return unit === 'record' ? 'add-remove' : 'zero-out';
}

export function sumTerms(problem: CheckedProblem, sampling: number): SumTerms {
  const { clippingNorm, colluders, dimension, mechanism, scale, terms, unit } = problem;
  const sensitivity = unitSensitivity(unit, scale * clippingNorm, dimension, terms);
  const exactFor = problem.xnoise === true ? problem.minSurvivors : undefined;
  return { sensitivity, dimension, samplingProbability: sampling, colluders, mechanism, exactFor };
}

/** Rounds that one unit pays for: the cap of its participant, and every tuning run again. */
export function paidRounds(problem: BudgetProblem, rounds: number): number {
  const once = Math.min(rounds, problem.participationCap ?? rounds);
  return once * (1 + (problem.practice.tuningRuns ?? 0));
}

function shareOf(problem: CheckedProblem, terms: SumTerms, noiseMultiplier: number): number {
  const { minSurvivors, colluders } = problem;
  return shareVariance({ noiseMultiplier, sensitivity: terms.sensitivity, minSurvivors, colluders });
}

/** Epsilon of `count` equal sums, in an accountant; that of the gate by default. */
export function epsilonOf(
  problem: BudgetProblem,
  event: DpEvent,
  count: number,
  create: (relation: Relation) => Accountant = gateAccountant,
): number {
  return create(relationOf(problem)).compose(event, count).epsilon(problem.delta);
}

/** Largest value of [low, high] that `fits`, by bisection; integers where `integer`. */
function largest(low: number, high: number, fits: (value: number) => boolean, integer: boolean): number {
  let [from, to] = [low, high];
  while (integer ? to - from > 1 : to - from > 1e-6 * to) {
    const middle = integer ? Math.floor((from + to) / 2) : (from + to) / 2;
    if (fits(middle)) from = middle;
    else to = middle;
  }
  return from;
}

function unreachable(epsilon: number, what: string): never {
  throw new CoveyError('PRIVACY_BUDGET', `"epsilon" expected a target that ${what} can meet, got ${epsilon}`, {
    epsilon,
  });
}

function solveRounds(problem: CheckedProblem, epsilon: number, noiseMultiplier: number): number {
  const terms = sumTerms(problem, amplifying(problem));
  const event = sumEvent(terms, shareOf(problem, terms, noiseMultiplier), problem.minSurvivors, 'server');
  const fits = (rounds: number): boolean => epsilonOf(problem, event, paidRounds(problem, rounds)) <= epsilon;
  if (!fits(1)) unreachable(epsilon, 'one round');
  if (problem.participationCap !== undefined && fits(problem.participationCap)) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"rounds" expected a number: with at most ${problem.participationCap} rounds of each participant any number of rounds fits`,
    );
  }
  let high = 2;
  while (fits(high)) {
    high *= 2;
    if (high > MAX_ROUNDS)
      throw new CoveyError('USAGE_RANGE', `"rounds" expected a limit below ${MAX_ROUNDS}, got none`);
  }
  return largest(high / 2, high, fits, true);
}

function solveSampling(problem: CheckedProblem, epsilon: number, noiseMultiplier: number, rounds: number): number {
  const fits = (sampling: number): boolean => {
    const terms = sumTerms(problem, sampling);
    const event = sumEvent(terms, shareOf(problem, terms, noiseMultiplier), problem.minSurvivors, 'server');
    return epsilonOf(problem, event, paidRounds(problem, rounds)) <= epsilon;
  };
  if (fits(1)) return 1;
  const least = 1e-7;
  if (!fits(least)) unreachable(epsilon, 'any sampling rate');
  return largest(least, 1, fits, false);
}

/** What an outsider could claim who sees neither the cohort nor the records: never the headline. */
function releaseEpsilon(
  problem: BudgetProblem,
  event: DpEvent,
  rounds: number,
  create: (relation: Relation) => Accountant = gateAccountant,
): number {
  const all = epsilonOf(problem, event, paidRounds(problem, rounds), create);
  const { cohortSampling, unit } = problem;
  // A unit of a drawn cohort and a drawn record is drawn with the product of both probabilities.
  if (cohortSampling === 1) return all;
  const inner = event.kind === 'poissonSampled' ? event : null;
  const base = inner === null ? event : inner.event;
  const probability = cohortSampling * (unit === 'record' && inner !== null ? inner.probability : 1);
  const hidden: DpEvent = { kind: 'poissonSampled', probability, event: base };
  const paid = rounds * (1 + (problem.practice.tuningRuns ?? 0));
  return Math.min(all, epsilonOf(problem, hidden, paid, create));
}

/** Events of one round for each view with the fewest accepted survivors; the functions that runs use. */
export function roundEvents(plan: BudgetPlan, survivors: number = plan.problem.minSurvivors): Record<View, DpEvent> {
  const terms = sumTerms(plan.problem, plan.sampling);
  const event = (view: View): DpEvent => sumEvent(terms, plan.shareVariance, survivors, view);
  return { server: event('server'), release: event('release') };
}

/** What ledgers charge in each view after `rounds` rounds of the plan. */
export function viewEpsilons(plan: BudgetPlan, rounds: number, survivors?: number): Record<View, number> {
  const { server, release } = roundEvents(plan, survivors);
  const { problem } = plan;
  return {
    server: epsilonOf(problem, server, paidRounds(problem, rounds)),
    release: releaseEpsilon(problem, release, rounds),
  };
}

/** The tightest claim: loss distributions, or the gate's own number where they cannot bound the events. */
function headlineOf(plan: BudgetPlan): Headline {
  const { problem, relation, rounds } = plan;
  const events = roundEvents(plan);
  const empty = pldAccountant({ relation });
  const charged = { server: plan.server, release: plan.release };
  if (!VIEWS.every((view) => empty.supports(events[view]))) return { accountant: 'rdp', labels: [], ...charged };
  const pld = (): Accountant => empty;
  return {
    accountant: 'pld',
    labels: empty.compose(events.server).labels,
    server: Math.min(charged.server, epsilonOf(problem, events.server, paidRounds(problem, rounds), pld)),
    release: Math.min(charged.release, releaseEpsilon(problem, events.release, rounds, pld)),
  };
}

function planningNumbers(plan: BudgetPlan): BudgetPlan['planning'] {
  const events = roundEvents(plan);
  const paid = paidRounds(plan.problem, plan.rounds);
  return PLANNING.flatMap(({ name, create }) =>
    VIEWS.map((view) => {
      try {
        const epsilon = create(plan.relation).compose(events[view], paid).epsilon(plan.problem.delta);
        return { accountant: name, view, epsilon };
      } catch (error) {
        if (!isCoveyError(error, 'PRIVACY_UNSUPPORTED_EVENT')) throw error;
        return { accountant: name, view, epsilon: null };
      }
    }),
  );
}

/**
 * Fills in what a problem leaves open: noise multiplier, rounds or epsilon from the two others; the largest record
 * sampling rate if all three are given. Where less is known, stand-ins come first (`problem.assumed`): 100 rounds, a noise
 * multiplier of 1 if there is neither a target nor a noise, 12 participants, every record in every round. The target holds
 * in the server's view with the fewest accepted survivors and without the colluders' shares, as `planRun` calibrates a run.
 * @throws CoveyError USAGE_CONFIG for a problem that is none, PRIVACY_BUDGET if nothing can meet the target.
 */
export function planBudget(given: BudgetProblem): BudgetPlan {
  const problem = checkProblem(given);
  const relation = relationOf(problem);
  let { noiseMultiplier, rounds } = problem;
  let sampling = amplifying(problem);
  let solved: BudgetPlan['solved'] = 'epsilon';
  if (problem.epsilon !== undefined && noiseMultiplier !== undefined && rounds !== undefined) {
    solved = 'sampling';
    sampling = solveSampling(problem, problem.epsilon, noiseMultiplier, rounds);
  } else if (problem.epsilon !== undefined && noiseMultiplier !== undefined) {
    solved = 'rounds';
    rounds = solveRounds(problem, problem.epsilon, noiseMultiplier);
  } else if (problem.epsilon !== undefined && rounds !== undefined) {
    solved = 'noiseMultiplier';
    const terms = sumTerms(problem, sampling);
    const paid = paidRounds(problem, rounds);
    noiseMultiplier = calibrateNoiseMultiplier(
      { epsilon: problem.epsilon, delta: problem.delta },
      (z) => [{ event: sumEvent(terms, shareOf(problem, terms, z), problem.minSurvivors, 'server'), count: paid }],
      gateAccountant(relation),
    );
  }
  if (noiseMultiplier === undefined || rounds === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', 'a checked problem without two knowns');
  const terms = sumTerms(problem, sampling);
  const plan: BudgetPlan = {
    problem,
    solved,
    noiseMultiplier,
    rounds,
    sampling,
    relation,
    sensitivity: terms.sensitivity,
    shareVariance: shareOf(problem, terms, noiseMultiplier),
    headline: { accountant: '', labels: [], server: 0, release: 0 },
    server: 0,
    release: 0,
    planning: [],
  };
  const charged: BudgetPlan = { ...plan, ...viewEpsilons(plan, rounds) };
  return { ...charged, headline: headlineOf(charged), planning: planningNumbers(charged) };
}

/** Least cohort whose mean has noise of at most `meanNoise` clips (all present), for a problem at unit `participant`. */
export function leastCohort(given: BudgetProblem, meanNoise: number): BudgetPlan {
  if (given.unit !== 'participant' || given.minSurvivors !== undefined || given.participants !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"meanNoise" expected unit participant, and neither "participants" (it is solved) nor "minSurvivors"',
    );
  if (!(meanNoise > 0)) throw new CoveyError('USAGE_RANGE', `"meanNoise" expected a number > 0, got ${meanNoise}`);
  const noiseOf = ({ problem, shareVariance }: BudgetPlan): number =>
    Math.sqrt(shareVariance / problem.participants) / (problem.scale * problem.clippingNorm);
  const at = (participants: number): BudgetPlan => planBudget({ ...given, participants });
  const isTooNoisy = (participants: number): boolean => noiseOf(at(participants)) > meanNoise;
  // With fewer no honest majority of the shares is left.
  const start = Math.max(3, 2 * given.colluders + 2);
  if (!isTooNoisy(start)) return at(start);
  const most = 65_536;
  if (isTooNoisy(most)) throw new CoveyError('USAGE_RANGE', `"meanNoise" expected more than ${noiseOf(at(most))}`);
  return at(largest(start, most, isTooNoisy, true) + 1);
}
