import { type EvolutionRule, evolveSlots } from '../cluster/evolution.ts';
import type { EntryBody } from './bodies.ts';
import { failAudit } from './failures.ts';
import type { RunHistory, SessionHistory } from './replay.ts';

/*
 * Evolving clusters followed through the releases: the slots of every session, and what the log says of each probe, must
 * be what the public rule makes of the released counts and gaps.
 */

/** What the configuration in the log says about evolving clusters, null for others. */
export function announcedEvolution({ config, plan }: EntryBody<'run.open'>): {
  readonly rule: EvolutionRule;
  /** Training steps before which a probe begins, and how many it takes. */
  readonly probes: readonly number[];
  readonly probeSteps: number;
  readonly gapNoiseStddev: number;
} | null {
  const clusters = config['clusters'] as Readonly<Record<string, unknown>> | null | undefined;
  if (clusters?.['assignment'] !== 'evolving') return null;
  const announced = clusters['evolving'] as Readonly<Record<string, unknown>>;
  return {
    rule: {
      unit: plan.unit,
      first: Number(clusters['kept']),
      most: Number(announced['most']),
      minGap: Number(announced['minGap']),
      minMembers: Number(announced['minMembers']),
    },
    probes: (clusters['choiceSteps'] as readonly unknown[]).map(Number),
    probeSteps: Number(announced['probeSteps']),
    gapNoiseStddev: Number(announced['gapNoiseStddev']),
  };
}

/** The steps of choices and gaps, in turn. */
function probeSteps({ probes, probeSteps: length }: { probes: readonly number[]; probeSteps: number }): number[] {
  return probes.flatMap((step) => [step, step + length - 1]);
}

/**
 * Checks slots and probes of a run with evolving clusters. `sumOf`: released sum of a session, centred.
 * @throws CoveyError AUDIT_FAILED (sums) at the first session whose slots do not follow from the releases before it.
 */
export function checkEvolution(
  open: EntryBody<'run.open'>,
  sessions: readonly SessionHistory[],
  sumOf: (session: SessionHistory) => Int32Array,
): void {
  const announced = announcedEvolution(open);
  if (announced === null) {
    const stray = sessions.find(({ kind, probe }) => kind === 'gaps' || probe !== undefined);
    if (stray !== undefined)
      failAudit('sums', stray.opened.at, 'gaps were summed in a run whose clusters do not evolve');
    return;
  }
  const { rule } = announced;
  const steps = probeSteps(announced);
  const history: number[][] = [];
  for (const session of sessions) {
    const { kind, opened, params, probe, release } = session;
    const isProbe = kind === 'choice' || kind === 'gaps';
    const turn = history.length % 2 === 0 ? 'choice' : 'gaps';
    const { step } = opened.body;
    if (isProbe && (kind !== turn || step !== steps[history.length]))
      failAudit('sums', opened.at, `a ${kind} after step ${step} is not the next release of a probe`);
    // Steps of a probe that is missing would train slots of another time.
    const due = steps.filter((at, i) => (i % 2 === 0 ? at <= step : at < step)).length;
    if (!isProbe && kind === 'train' && history.length !== due)
      failAudit(
        'sums',
        opened.at,
        `step ${step} was opened after ${history.length} releases of probes, expected ${due}`,
      );
    const { slots } = evolveSlots(rule, history, kind === 'choice').layout;
    if (params.slots !== slots)
      failAudit('sums', opened.at, `"slots" expected ${slots} from the released probes, got ${params.slots}`);
    if (release === undefined || !isProbe) continue;
    const expected = kind === 'gaps' ? 2 * slots : slots;
    const sum = sumOf(session);
    if (sum.length !== expected)
      failAudit('sums', release.at, `"${kind}" expected ${expected} released numbers, got ${sum.length}`);
    history.push([...sum].map((value) => value / params.encoding.scale));
    if (probe === undefined || kind !== 'gaps') continue;
    const outcome = evolveSlots(rule, history).ended.at(-1);
    const told = JSON.stringify(probe.body.trials);
    const derived = JSON.stringify(
      outcome?.trials.map(({ slots: halves, gap, stays }) => ({ slots: halves, gap: String(gap), stays })),
    );
    if (told !== derived)
      failAudit('sums', probe.at, `"trials" expected ${derived} from the released sum, got ${told}`);
    if (probe.body.retired.join() !== outcome?.retired.join())
      failAudit(
        'sums',
        probe.at,
        `"retired" expected slots ${outcome?.retired.join(', ')}, got ${probe.body.retired.join(', ')}`,
      );
    if (probe.body.slots !== outcome?.next.slots)
      failAudit('sums', probe.at, `"slots" expected ${outcome?.next.slots} after the probe, got ${probe.body.slots}`);
  }
}

/** What a report says of the slots over a run; nothing for clusters that do not evolve. */
export function evolutionRow({ open, sessions }: Pick<RunHistory, 'open' | 'sessions'>): [string, string][] {
  const announced = announcedEvolution(open);
  if (announced === null) return [];
  const { first, minGap, minMembers, most } = announced.rule;
  const ends = sessions.flatMap(({ probe }) => (probe === undefined ? [] : [probe.body]));
  const told = ends.map(({ slots, step, trials }) => {
    const stay = trials.filter(({ stays }) => stays).length;
    return `${slots} after step ${step + 1} (${stay} of ${trials.length} trials stay)`;
  });
  const rule = `halves stay apart above a mean relative gap of ${minGap} with noisy counts of ${minMembers} each`;
  return [
    [
      'Evolving clusters',
      `from ${first} to at most ${most} slots; ${rule}; slots after the probes: ${told.join(', ') || 'none yet'}; counts and gaps of every probe are charged`,
    ],
  ];
}
