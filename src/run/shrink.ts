import { CoveyError } from '../../protocol/errors.ts';
import type { RunConfig } from './config.ts';
import { groupCount, groupMembers, isInGroup } from './groups.ts';
import { groupOf, type RunPlan, type ScheduledSession } from './plan.ts';

/*
 * A cohort whose members leave when their budgets are used up. The noise of a share is made for h honest shares, the fewest
 * survivors less the colluders, so it covers every cohort of at least that many. A run that may shrink further names
 * `leastSurvivors`: its sessions then ask for fewer survivors and each share carries more noise. The noise that counts, and
 * with it every charge, stays that of the plan. @see privacy F18
 */

/** Fewest survivors that any session of a run may come to. */
export function leastSurvivors({ cohort }: Pick<RunConfig, 'cohort'>): number {
  return cohort.leastSurvivors ?? cohort.minSurvivors;
}

/**
 * Fewest survivors of the next session with `left` members of a group of `size`: the same share of them as at the beginning,
 * within what the run allows. Null if they are too few.
 */
export function survivorsFor({ cohort }: Pick<RunConfig, 'cohort'>, size: number, left: number): number | null {
  const { colluders, minSurvivors, profile } = cohort;
  const least = leastSurvivors({ cohort });
  // 3c < |U1|, SPEC section 4.
  if (left < least || (profile === 'strict' && left <= 3 * colluders)) return null;
  if (cohort.leastSurvivors === undefined) return minSurvivors;
  return Math.min(minSurvivors, Math.max(least, Math.ceil((minSurvivors * left) / size)));
}

/**
 * Configuration and plan of a session that accepts `minSurvivors`: what every member derives again from the parameters.
 * Units: `shareVariance` in squared integer units, (minSurvivors - colluders) times it is the same in every session.
 * @throws CoveyError PRIVACY_POLICY outside of what the configuration allows.
 */
export function atSurvivors<T extends { readonly config: RunConfig; readonly plan: RunPlan }>(
  facts: T,
  minSurvivors: number,
): { readonly config: RunConfig; readonly plan: RunPlan } {
  const { config, plan } = facts;
  const { cohort } = config;
  if (minSurvivors === cohort.minSurvivors) return facts;
  const least = leastSurvivors(config);
  if (!(Number.isSafeInteger(minSurvivors) && minSurvivors >= least && minSurvivors <= cohort.minSurvivors))
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"minSurvivors" expected ${least} to ${cohort.minSurvivors} of the run configuration, got ${minSurvivors}`,
      { field: 'minSurvivors' },
    );
  const shareVariance =
    (plan.shareVariance * (cohort.minSurvivors - cohort.colluders)) / (minSurvivors - cohort.colluders);
  return { config: { ...config, cohort: { ...cohort, minSurvivors } }, plan: { ...plan, shareVariance } };
}

/** The session of the schedule that a member is in next; null after the last one. */
export function nextSessionOf(
  crypto: Parameters<typeof groupMembers>[0],
  facts: Parameters<typeof groupMembers>[1] & { readonly plan: Pick<RunPlan, 'schedule'> },
  id: Uint8Array,
  after: ScheduledSession | null,
): ScheduledSession | null {
  const { schedule } = facts.plan;
  const same = ({ kind, step }: ScheduledSession, group: number): boolean =>
    after !== null && kind === after.kind && step === after.step && group === groupOf(after);
  const from = after === null ? 0 : schedule.findIndex((session) => same(session, groupOf(session))) + 1;
  const groups = Array.from({ length: groupCount(facts.config) }, (_, group) => group);
  const own = groups.find((group) => isInGroup(groupMembers(crypto, facts, group), id));
  return schedule.slice(from).find((session) => groupOf(session) === own) ?? null;
}
