import { rdpAccountant } from '../privacy/accountant.ts';
import type { Relation } from '../privacy/events.ts';
import { pldAccountant } from '../privacy/pld.ts';
import type { TermKind } from '../privacy/sum-event.ts';
import { VIEWS, type View } from '../privacy/views.ts';
import type { RunConfig } from '../run/config.ts';
import { evolvingOf } from '../run/evolution.ts';
import { groupOf, planRun, type RunPlan, sessionEvents, sessionSlots, trainingBlocks } from '../run/plan.ts';
import type { Headline } from './solve.ts';
import { type EffectRow, spreadSurvivors } from './tables.ts';

/**
 * What the ledgers of a concrete run charge, by its own plan and its own events: every session of the schedule once, with
 * the model's vector, clip and scale. Sessions that are given up and repeated come on top of it.
 */
export interface RunBudget {
  readonly unit: RunConfig['privacy']['unit'];
  readonly relation: Relation;
  readonly delta: number;
  readonly targetEpsilon: number;
  readonly participants: number;
  readonly minSurvivors: number;
  readonly colluders: number;
  readonly terms: TermKind;
  /** Sessions by kind. */
  readonly sessions: Readonly<Record<string, number>>;
  /** Of the training steps; noise over the sensitivity, which holds the rounding besides the clip. Units: integer units. */
  readonly noiseMultiplier: number;
  readonly sensitivity: number;
  readonly scaledNorm: number;
  /** Most coordinates of a training step, padding included. */
  readonly dimension: number;
  /** False where slots come and go with the releases: the charges are then at most these. */
  readonly isExact: boolean;
  /** With the fewest survivors; `rows` has what is charged with others. */
  readonly headline: Headline;
  readonly server: number;
  readonly release: number;
  readonly rows: readonly EffectRow[];
}

type CreateAccountant = typeof rdpAccountant;

/** Epsilon of the whole schedule with so many survivors in every session. Groups are disjoint: nobody pays for two. */
function scheduleEpsilon(
  config: RunConfig,
  plan: RunPlan,
  survivors: number,
  view: View,
  create: CreateAccountant,
): number {
  const { delta, relation } = config.privacy;
  return plan.schedule
    .filter((session) => groupOf(session) === 0)
    .flatMap((session) => sessionEvents(config, plan, session, sessionSlots(config, session), survivors, view))
    .reduce((spent, event) => spent.compose(event), create({ relation }))
    .epsilon(delta);
}

const bothViews = (epsilonOf: (view: View) => number): Record<View, number> => ({
  server: epsilonOf('server'),
  release: epsilonOf('release'),
});

function headlineOf(config: RunConfig, plan: RunPlan, charged: Readonly<Record<View, number>>): Headline {
  const { minSurvivors } = config.cohort;
  const empty = pldAccountant({ relation: config.privacy.relation });
  const events = (view: View) =>
    plan.schedule.flatMap((session) =>
      sessionEvents(config, plan, session, sessionSlots(config, session), minSurvivors, view),
    );
  if (!VIEWS.every((view) => events(view).every((event) => empty.supports(event))))
    return { accountant: 'rdp', labels: [], ...charged };
  const tight = bothViews((view) => scheduleEpsilon(config, plan, minSurvivors, view, pldAccountant));
  const { labels } = events('server').reduce((spent, event) => spent.compose(event), empty);
  return {
    accountant: 'pld',
    labels,
    server: Math.min(charged.server, tight.server),
    release: Math.min(charged.release, tight.release),
  };
}

/**
 * The budget of a run as its configuration says it.
 * @throws CoveyError of `planRun`, PRIVACY_BUDGET if no noise meets the target among them.
 */
export function budgetOfRun(config: RunConfig): RunBudget {
  const plan = planRun(config);
  const { clusters, cohort, encoding, privacy, training } = config;
  const { colluders, groups, minSurvivors, participants } = cohort;
  const present = Math.min(...(clusters?.open?.map((names) => names.length) ?? [Math.floor(participants / groups)]));
  const chargedWith = (survivors: number): Record<View, number> =>
    bothViews((view) => scheduleEpsilon(config, plan, survivors, view, rdpAccountant));
  const rows = spreadSurvivors(Math.max(present, minSurvivors), minSurvivors).map((value) => ({
    value,
    ...chargedWith(value),
  }));
  const charged = chargedWith(minSurvivors);
  const sessions: Record<string, number> = {};
  for (const session of plan.schedule)
    if (groupOf(session) === 0) sessions[session.kind] = (sessions[session.kind] ?? 0) + 1;
  const vectors = plan.schedule
    .filter(({ kind }) => kind === 'train')
    .map((session) =>
      trainingBlocks(config, sessionSlots(config, session)).reduce((sum, { length }) => sum + length, 0),
    );
  return {
    unit: privacy.unit,
    relation: privacy.relation,
    delta: privacy.delta,
    targetEpsilon: privacy.targetEpsilon,
    participants,
    minSurvivors,
    colluders,
    terms: privacy.terms ?? 'integer',
    sessions,
    noiseMultiplier: plan.noiseMultiplier,
    sensitivity: plan.sensitivity,
    scaledNorm: plan.local === null ? encoding.scale * training.clippingNorm : plan.sensitivity,
    dimension: plan.local?.dimension ?? Math.max(...vectors),
    isExact: evolvingOf(config) === null,
    headline: headlineOf(config, plan, charged),
    ...charged,
    rows,
  };
}
