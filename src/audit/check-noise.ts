import type { SessionParams } from '../../protocol/session.ts';
import { eventToJson } from '../privacy/event-json.ts';
import { VIEWS, type View } from '../privacy/views.ts';
import type { EntryBody, RunPlanClaim } from './bodies.ts';
import { canonicalJson } from './canonical-json.ts';
import { announcedClip } from './clips.ts';
import {
  announcedDraws,
  announcedMechanism,
  announcedTolerance,
  deriveCountUnits,
  deriveEvents,
  derivePaths,
  deriveSensitivity,
} from './derive-events.ts';
import { announcedEvolution } from './evolution.ts';
import { type AuditLocation, failAudit } from './failures.ts';
import { announcedLabels } from './labels.ts';
import { type AnnouncedLocalNoise, announcedLocalNoise, chargedQueries, localEvents } from './local-noise.ts';
import { announcedMetrics } from './metrics.ts';
import type { RunHistory, SessionHistory } from './replay.ts';
import { checkRounding } from './rounding.ts';

/** Noise and clip of a session must be what the run announced. */
function checkParams(session: SessionHistory, open: EntryBody<'run.open'>, mechanism: string, at: AuditLocation): void {
  const { params, kind } = session;
  const { plan } = open;
  const expect = (holds: boolean, message: string): void => {
    if (!holds) failAudit('noise', at, message);
  };
  if (kind === 'seats') {
    // The one release without noise: positions drawn before any data is read, in a vector of nothing else.
    const seatsOnly = params.layout.length === 1 && params.layout[0]?.segment === 'seats';
    expect(seatsOnly && params.noise.mechanism === 'none', 'a session without noise may only draw seats');
    return;
  }
  if (kind === 'train' && announcedLocalNoise(open) !== null) {
    expect(
      params.noise.mechanism === 'none',
      'organizations that add noise to every gradient add no shares to the sum',
    );
    return;
  }
  expect(params.noise.mechanism !== 'none', 'a session that depends on data must carry noise');
  expect(
    params.noise.mechanism === mechanism,
    `"noise.mechanism" expected ${mechanism} of the run, got ${params.noise.mechanism}`,
  );
  const tolerance = kind === 'train' ? announcedTolerance(open.config) : null;
  expect(
    (params.noise.tolerance ?? null) === tolerance,
    `"noise.tolerance" expected ${tolerance ?? 'none'} of the run, got ${params.noise.tolerance ?? 'none'}`,
  );
  if (tolerance !== null) {
    expect(params.noise.mechanism === 'skellam', 'noise can be taken off a sum again only where it is Skellam noise');
    const { u2 = 0, survivors = 0 } = session.release?.body ?? {};
    expect(
      u2 - survivors <= tolerance,
      `"survivors" expected at most ${tolerance} of ${u2} lost after their shares, got ${survivors} survivors`,
    );
  }
  if (kind === 'choice') {
    expect(params.layout.length === 1 && params.layout[0]?.segment === 'counts', 'a choice may release counts only');
    expect(plan.unit === 'participant' || Number(plan.choiceEpsilon) > 0, 'a choice must be charged');
    return;
  }
  if (kind === 'metrics') {
    const { bins, noiseStddev } = announcedMetrics(open) ?? { bins: 0, noiseStddev: Number.POSITIVE_INFINITY };
    const { encoding, layout, noise } = params;
    const [block] = layout;
    expect(
      layout.length === 1 && block?.segment === 'metrics' && block.length === bins,
      `metrics may release one histogram of ${bins} bins only`,
    );
    expect(encoding.clippingNorm === 1 && encoding.rounding === 'none', 'a member adds a single one to a histogram');
    const honest = params.minSurvivors - plan.colluders;
    expect(
      Number.isInteger(encoding.scale) && encoding.scale >= 1,
      `"scale" expected a whole number of units, got ${encoding.scale}`,
    );
    expect(
      honest * noise.shareVariance >= (noiseStddev * encoding.scale) ** 2 * (1 - 1e-9),
      `"shareVariance" expected noise of ${noiseStddev} members in each bin, got ${Math.sqrt(honest * noise.shareVariance) / encoding.scale}`,
    );
    return;
  }
  if (kind === 'labels') {
    const { classes, noiseStddev } = announcedLabels(open) ?? { classes: 0, noiseStddev: Number.POSITIVE_INFINITY };
    const { encoding, layout, noise } = params;
    const [block] = layout;
    expect(
      layout.length === 1 && block?.segment === 'labels' && block.length === classes,
      `label counts may release one histogram of ${classes} classes only`,
    );
    expect(
      encoding.clippingNorm === 1 && encoding.scale === 1 && encoding.rounding === 'none',
      'a record adds a single one to the label counts',
    );
    const honest = plan.minSurvivors - plan.colluders;
    expect(
      honest * noise.shareVariance >= noiseStddev ** 2 * (1 - 1e-9),
      `"shareVariance" expected noise of ${noiseStddev} records in each class, got ${Math.sqrt(honest * noise.shareVariance)}`,
    );
    return;
  }
  if (kind === 'gaps') {
    const { gapNoiseStddev } = announcedEvolution(open) ?? { gapNoiseStddev: Number.POSITIVE_INFINITY };
    const { encoding, layout, noise, slots } = params;
    const [block] = layout;
    expect(
      layout.length === 1 && block?.segment === 'gaps' && block.length === 2 * slots,
      `a probe may release two numbers for each of ${slots} slots only`,
    );
    expect(encoding.clippingNorm === 1 && encoding.rounding === 'none', 'a gap is one number of at most one');
    const honest = plan.minSurvivors - plan.colluders;
    expect(
      Number.isInteger(encoding.scale) && encoding.scale >= 1,
      `"scale" expected a whole number of units, got ${encoding.scale}`,
    );
    expect(
      honest * noise.shareVariance >= (gapNoiseStddev * encoding.scale) ** 2 * (1 - 1e-9),
      `"shareVariance" expected noise of ${gapNoiseStddev} on each gap, got ${Math.sqrt(honest * noise.shareVariance) / encoding.scale}`,
    );
    return;
  }
  checkRounding(session, open, at);
  const adaptive = announcedClip(open);
  const isCounted = params.layout.some(({ segment }) => segment.startsWith('clip-count'));
  const units = deriveCountUnits(params);
  expect(isCounted === (adaptive !== null), 'a count of clipped updates is summed with an adaptive clip and no other');
  if (adaptive !== null) {
    expect(
      Number.isSafeInteger(units) && units > 0 && params.encoding.rounding === 'conditional',
      'the count of clipped updates must name its units',
    );
    // The product is a constant of the run: no charge depends on the clip.
    const { clippingNorm, scale } = params.encoding;
    expect(
      scale * clippingNorm === adaptive.firstScale * adaptive.firstNorm,
      `"scale" expected ${adaptive.firstScale * adaptive.firstNorm} over the clip, got ${scale}`,
    );
  }
  // Where fewer survivors are accepted than planned, for members have left, each share carries more.
  const fewer = (plan.minSurvivors - plan.colluders) / (params.minSurvivors - plan.colluders);
  const leastShare = Number(plan.shareVariance) * Math.max(1, fewer * (1 - 1e-9));
  expect(
    params.noise.shareVariance >= leastShare,
    `"shareVariance" expected at least ${leastShare}, got ${params.noise.shareVariance}`,
  );
  expect(
    deriveSensitivity(params) <= Number(plan.sensitivity),
    `"sensitivity" expected at most ${plan.sensitivity}, derived ${deriveSensitivity(params)}`,
  );
}

/** What the charges of training steps are made of where organizations add noise themselves. */
interface LocalTerms {
  readonly noise: AnnouncedLocalNoise;
  readonly queries: number;
  readonly mechanism: string;
}

/** Events of a charge must be the derived ones, character by character. */
function checkEvents(
  kind: SessionHistory['kind'],
  params: SessionParams,
  { config, plan }: EntryBody<'run.open'>,
  survivors: number,
  view: View,
  events: readonly unknown[],
  at: AuditLocation,
  local: LocalTerms | null,
): void {
  const derived =
    kind === 'train' && local !== null
      ? localEvents(local.noise, local.queries, local.mechanism, plan)
      : deriveEvents(kind, params, plan, survivors, view, announcedDraws(config));
  if (derived === null)
    failAudit('noise', at, `no honest share of noise is left among ${survivors} survivors (${view} view)`);
  const expected = canonicalJson(derived.map(eventToJson));
  if (canonicalJson(events) !== expected) failAudit('noise', at, `"events" (${view} view) expected ${expected}`);
}

/** A charge that names paths must name those of the layout; earlier versions named none. */
function checkPaths(session: SessionHistory, named: readonly string[] | undefined, at: AuditLocation): void {
  const derived = derivePaths(session.kind, session.params).join(', ');
  if (named !== undefined && named.join(', ') !== derived)
    failAudit('noise', at, `"paths" expected ${derived || 'none'}, got ${named.join(', ') || 'none'}`);
}

/** Noise of the plan itself: shares calibrated to the fewest survivors without the colluders. @see privacy F18 */
function checkPlan(plan: RunPlanClaim, local: LocalTerms | null, at: AuditLocation): void {
  // Noise inside the organizations stands alone: no other share counts, and none is left out.
  const honest = local === null ? plan.minSurvivors - plan.colluders : 1;
  if (local !== null && local.noise.sensitivity > Number(plan.sensitivity))
    failAudit('noise', at, `"sensitivity" expected at least ${local.noise.sensitivity}, got ${plan.sensitivity}`);
  if (local !== null && local.queries > 0 && local.queries < local.noise.batches)
    failAudit('noise', at, `"events" expected at least ${local.noise.batches} gradients a step, got ${local.queries}`);
  const planned = (Number(plan.noiseMultiplier) * Number(plan.sensitivity)) ** 2;
  if (honest * Number(plan.shareVariance) < planned * (1 - 1e-9)) {
    failAudit(
      'noise',
      at,
      `${honest} honest shares carry less than the planned noise multiplier ${plan.noiseMultiplier}`,
    );
  }
}

/**
 * Derives the charge of every session from its signed parameters and survivors, and compares it with what the
 * coordinator and each participant wrote. @throws CoveyError AUDIT_FAILED (noise). Returns the number of charges.
 */
export function checkNoise(history: RunHistory): number {
  const { config, plan } = history.open;
  const mechanism = announcedMechanism(config);
  const noise = announcedLocalNoise(history.open);
  const local = noise === null ? null : { noise, mechanism, queries: chargedQueries(history) };
  checkPlan(plan, local, history.openedAt);
  let checked = 0;
  for (const session of history.sessions) {
    const { charge, kind, params } = session;
    checkParams(session, history.open, mechanism, session.opened.at);
    for (const view of VIEWS) {
      if (charge !== undefined)
        checkEvents(
          kind,
          params,
          history.open,
          charge.body.survivors.length,
          view,
          charge.body.events[view],
          charge.at,
          local,
        );
    }
    const own = [...session.reserved.values(), ...session.settled.values()];
    if (charge !== undefined) checkPaths(session, charge.body.paths, charge.at);
    for (const { at, body } of own) {
      checkEvents(kind, params, history.open, body.survivors, 'server', body.events, at, local);
      checkPaths(session, body.paths, at);
    }
    checked += own.length + (charge === undefined ? 0 : 1);
  }
  return checked;
}
