import { coordinateCount } from '../../protocol/params.ts';
import type { SessionParams } from '../../protocol/session.ts';
import type { JsonObject } from '../privacy/event-json.ts';
import type { DpEvent } from '../privacy/events.ts';
import type { Path } from '../privacy/paths.ts';
import type { View } from '../privacy/views.ts';
import type { RunPlanClaim, SessionKind } from './bodies.ts';

/*
 * The charge of a session, derived a second time from its signed parameters: what was released, at which sensitivity,
 * under how much noise that the viewer does not know. Nothing here is shared with the code that runs use.
 */

/** Law of the noise that the configuration of a run announces; discrete Gaussian where it names none. */
export function announcedMechanism(config: JsonObject): string {
  const { mechanism = 'discrete-gaussian' } = (config['privacy'] ?? {}) as { readonly mechanism?: string };
  return mechanism;
}

/** What a member adds to or takes off the count of an adaptive clip: the name of the last coordinate says it. */
export function deriveCountUnits({ layout }: SessionParams): number {
  const last = layout.at(-1);
  const [name, units] = last?.segment.split('/') ?? [];
  return name === 'clip-count' && last?.length === 1 ? Number(units) : 0;
}

/** l2 sensitivity in integer units that follows from the clip. @see privacy F13 */
export function deriveSensitivity(params: SessionParams): number {
  const { clippingNorm, scale, rounding } = params.encoding;
  const scaled = clippingNorm * scale;
  // Rounded once, all records together: any coordinate may go to its other neighbour; doubles err by less than 2^-30.
  if (rounding === 'float-bounded') return scaled * (1 + 2 ** -30) + Math.sqrt(coordinateCount(params));
  // Rounding toward zero never lengthens a vector; integers make the norm at most the floor of what was clipped to.
  if (rounding !== 'conditional') return Math.floor(scaled);
  // A whole number of units beside the update is not rounded: it only adds its square. privacy F20
  const count = deriveCountUnits(params);
  const dimension = coordinateCount(params) - (count > 0 ? 1 : 0);
  const squared =
    Math.floor(
      Math.min((scaled + Math.sqrt(dimension)) ** 2, scaled ** 2 + dimension / 4 + scaled + Math.sqrt(dimension) / 2),
    ) +
    count ** 2;
  const root = Math.sqrt(squared);
  return root * root <= squared && !Number.isInteger(root) ? root * (1 + 2 ** -52) : root;
}

/** Whether the configuration of a run announces sums of records that are rounded once. */
export function announcesFloatTerms(config: JsonObject): boolean {
  return (config['privacy'] as { readonly terms?: string } | undefined)?.terms === 'float-bounded';
}

/** Shares that a viewer does not know: the coordinator and its c helpers know c, a member knows at least its own. */
function unknownShares(view: View, survivors: number, colluders: number): number {
  return survivors - (view === 'server' ? colluders : Math.max(1, colluders));
}

/** Whether a unit is a person with all its records at one organization. */
export function protectsPersons(config: JsonObject): boolean {
  return (config['privacy'] as { readonly perPerson?: boolean } | undefined)?.perPerson === true;
}

/** Most losses of a session that a run announces noise for; null where shares stay as they are. */
export function announcedTolerance(config: JsonObject): number | null {
  const { xnoise } = (config['privacy'] ?? {}) as { readonly xnoise?: { readonly tolerance?: number } };
  return xnoise?.tolerance ?? null;
}

/** Variance that one of the survivors still carries: what each of the fewest would, or as much together. @see privacy F19 */
export function unknownShare({ minSurvivors, noise }: SessionParams, survivors: number): number {
  const { shareVariance, tolerance } = noise;
  return tolerance === undefined ? shareVariance : (minSurvivors * shareVariance) / survivors;
}

/**
 * How far one unit moves a sum, over the norm of a member's vector: the one of a participant comes or goes, but a record or
 * a replacement moves it from one bin to another. @see privacy 3.5
 */
function movedFactor(kind: SessionKind, { unit, relation }: RunPlanClaim): number {
  if (kind === 'labels') return relation === 'replace-one' ? Math.SQRT2 : 1;
  // One vector goes and another one, as long and opposite, comes.
  if (kind === 'train') return relation === 'replace-one' ? 2 : 1;
  // Two numbers of one slot, each at most one; a replaced participant may move both of two slots.
  if (kind === 'gaps') return relation === 'replace-one' ? 2 * Math.SQRT2 : Math.SQRT2;
  return kind === 'metrics' && (unit === 'record' || relation === 'replace-one') ? Math.SQRT2 : 1;
}

/**
 * What a session releases, told from the names in its signed layout: the shared layers, the heads (of an open cluster where
 * membership is public), sums of an algorithm's own, the count of an adaptive clip.
 */
export function derivePaths(kind: SessionKind, { groupId, layout, mode }: SessionParams): readonly Path[] {
  if (kind !== 'train') return kind === 'seats' ? [] : [kind === 'choice' || kind === 'gaps' ? 'selection' : kind];
  const names = layout.map(({ segment }) => segment);
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  const heads: Path = mode === 'open' ? (groupId as `cluster-${number}`) : 'slots';
  return [
    // Without a body its segment is one coordinate that is always zero.
    ...(mode === 'hybrid' && has(/^body$/) ? (['body'] as const) : []),
    ...(has(/^slot-/) ? [heads] : []),
    ...(has(/^(?!body$|slot-|clip-count)/) ? (['extra'] as const) : []),
    ...(has(/^clip-count/) ? (['clip-count'] as const) : []),
  ];
}

/** Slots that the configuration of a run lets a member choose at once, each by a draw that is charged by itself. */
export function announcedDraws(config: JsonObject): number {
  const { assignment, filled } = (config['clusters'] ?? {}) as {
    readonly assignment?: string;
    readonly filled?: number;
  };
  return assignment === 'several' && filled !== undefined ? filled : 1;
}

/** Events that one record of a survivor pays; null where no honest noise is left. @see privacy section 3, F9, F11, F12, F18, F19, F21 */
export function deriveEvents(
  kind: SessionKind,
  params: SessionParams,
  plan: RunPlanClaim,
  survivors: number,
  view: View,
  draws = 1,
): readonly DpEvent[] | null {
  // Seats are drawn at random before any data is read: their sum says nothing about records.
  if (kind === 'seats') return [];
  if (kind === 'choice' && plan.unit === 'record') {
    const draw = {
      kind: 'exponentialMechanism',
      epsilon: Number(plan.choiceEpsilon),
      monotone: plan.relation !== 'replace-one',
    } as const;
    return Array.from({ length: draws }, () => draw);
  }
  // A participant's choice hides in the slots; what its counts add is a sum like any other. privacy 3.4
  const shares = unknownShares(view, survivors, params.colluders);
  if (shares < 1) return null;
  const { mechanism, shareVariance } = params.noise;
  const each = unknownShare(params, survivors);
  const moved = {
    sensitivity: movedFactor(kind, plan) * deriveSensitivity(params),
    dimension: coordinateCount(params),
    symmetric: true,
  };
  const sum: DpEvent =
    mechanism === 'skellam'
      ? { kind: 'skellam', variance: shares * each, ...moved }
      : { kind: 'discreteGaussian', shares, shareVariance, ...moved };
  const probability = Number(plan.samplingProbability);
  // Record sampling amplifies inside an organization; cohorts are known to the server and never amplify.
  const isSampled = kind === 'train' && plan.unit === 'record' && probability < 1;
  return isSampled ? [{ kind: 'poissonSampled', probability, event: sum }] : [sum];
}
