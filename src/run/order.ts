import {
  concatBytes,
  decodeParts,
  encodeParts,
  equalBytes,
  fromHex,
  hashParts,
  u8,
  u32le,
  utf8,
} from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { rosterHash } from '../../protocol/params.ts';
import type { Roster, SessionParams } from '../../protocol/session.ts';
import type { ProbeHistory, SlotLayout } from '../cluster/evolution.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import { bodyLayers } from '../learning/manifest.ts';
import {
  type ClipHistory,
  clipSegment,
  clipSteps,
  decodeClipHistory,
  encodeClipHistory,
  followClip,
} from './adaptive-clip.ts';
import { configHash, isFloatBounded, mechanismOf, type RunConfig, sendsUpdates, toleratedDrops } from './config.ts';
import { evolvingOf, sessionLayout } from './evolution.ts';
import { groupIdOf, groupMembers } from './groups.ts';
import {
  groupOf,
  purposeOf,
  type RunPlan,
  type ScheduledSession,
  sessionBlocks,
  sessionNoise,
  sessionSlots,
} from './plan.ts';
import { decodeModels, encodeModels } from './released.ts';
import { atSurvivors } from './shrink.ts';

/** What both ends know about a run before its first session. */
export interface RunFacts {
  readonly runId: string;
  readonly config: RunConfig;
  readonly plan: RunPlan;
  readonly roster: Roster;
}

/** A session of the schedule with the models it works on; its bytes travel beside P0 and are bound by `modelHash`. */
export interface SessionOrder {
  readonly session: ScheduledSession;
  readonly models: ReleasedModels;
  /** Counts that an adaptive clip follows from; absent with a fixed one. */
  readonly clip?: ClipHistory;
  /** Trials of evolving clusters: not told but derived from the released probes; absent with other clusters. */
  readonly trials?: SlotLayout['trials'];
}

const readU32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);

const KINDS = ['seats', 'choice', 'train', 'metrics', 'labels', 'gaps'] as const;

export function encodeOrder(order: SessionOrder): Uint8Array {
  const { session, models } = order;
  return encodeParts([
    u8(KINDS.indexOf(session.kind)),
    u32le(session.step),
    u32le(groupOf(session)),
    encodeModels(models),
    ...(order.clip === undefined ? [] : [encodeClipHistory(order.clip)]),
  ]);
}

/**
 * Reads an order and finds its session in the public schedule. `probes`: what the reader knows of the released probes,
 * which the slots of evolving clusters follow from.
 * @throws CoveyError CODEC_* for malformed bytes, PRIVACY_POLICY for a session that the schedule does not contain.
 */
export function decodeOrder(
  facts: Pick<RunFacts, 'config' | 'plan'>,
  bytes: Uint8Array,
  probes: ProbeHistory = [],
): SessionOrder {
  const isAdaptive = facts.config.training.adaptiveClip !== undefined;
  const [kindByte, stepBytes, groupBytes, models, clip] = decodeParts(bytes, isAdaptive ? 5 : 4);
  const kind = KINDS[kindByte?.[0] ?? 255];
  const isMalformed = kindByte?.length !== 1 || stepBytes?.length !== 4 || groupBytes?.length !== 4;
  if (isMalformed || kind === undefined || models === undefined)
    throw new CoveyError('CODEC_TYPE', '"order" expected a kind, a step, a group and models');
  const [step, group] = [readU32(stepBytes), readU32(groupBytes)];
  const session = facts.plan.schedule.find((s) => s.kind === kind && s.step === step && groupOf(s) === group);
  if (session === undefined)
    throw new CoveyError('PRIVACY_POLICY', `"order" expected a session of the schedule, got ${kind} ${step}`);
  const decoded = decodeModels(facts.config, models);
  const layout = evolvingOf(facts.config) === null ? null : sessionLayout(facts.config, facts.plan, session, probes);
  const slots = layout?.slots ?? sessionSlots(facts.config, session);
  // The number of slots follows from the schedule or the releases: the coordinator can neither add a slot nor take one away.
  if (decoded.heads.length !== slots) {
    const source = layout === null ? 'the schedule' : 'the released probes';
    throw new CoveyError('PRIVACY_POLICY', `"slots" expected ${slots} of ${source}, got ${decoded.heads.length}`);
  }
  return {
    session,
    models: decoded,
    ...(clip === undefined ? {} : { clip: decodeClipHistory(clip, clipSteps(session)) }),
    ...(layout === null ? {} : { trials: layout.trials }),
  };
}

function taskHash(crypto: CryptoProvider, config: RunConfig, { kind, step }: ScheduledSession): Uint8Array {
  const task = concatBytes(u8(KINDS.indexOf(kind)), u32le(step));
  return hashParts(crypto, utf8(LABELS.task), configHash(crypto, config), task);
}

/** The choice or the gaps of a probe that signed parameters are of; null if the schedule has no such session. */
export function probeOf(
  crypto: CryptoProvider,
  { config, plan }: Pick<RunFacts, 'config' | 'plan'>,
  params: SessionParams,
): ScheduledSession | null {
  const probes = plan.schedule.filter(({ kind }) => kind === 'choice' || kind === 'gaps');
  return probes.find((session) => equalBytes(taskHash(crypto, config, session), params.taskHash)) ?? null;
}

/** How the vectors of training steps become integers. @see privacy F13 */
function roundingOf(config: RunConfig): SessionParams['encoding']['rounding'] {
  if (sendsUpdates(config)) return 'conditional';
  return isFloatBounded(config) ? 'float-bounded' : 'toward-zero';
}

/**
 * Parameters of a session, a function of public facts: the coordinator signs them and every participant derives them
 * again and compares all bytes, so no field can be lowered, raised or swapped (A6, A8). `minSurvivors`: of the configuration
 * if left out, fewer only where members may leave.
 * @throws CoveyError PRIVACY_POLICY for fewer survivors than the configuration allows.
 */
export function orderParams(
  crypto: CryptoProvider,
  facts: RunFacts,
  order: SessionOrder,
  number: { readonly round: number; readonly attempt: number; readonly minSurvivors?: number },
): SessionParams {
  const { roster, runId } = facts;
  const { config, plan } = atSurvivors(facts, number.minSurvivors ?? facts.config.cohort.minSurvivors);
  const { session } = order;
  const slots = order.models.heads.length;
  const lanes = config.encoding.lanes;
  const training = session.kind === 'train';
  const { scale, shareVariance } = sessionNoise(config, plan, session);
  const tolerance = toleratedDrops(config, session.kind);
  const clip = followClip(config, order.clip ?? [], plan.countUnits);
  const counted = training && plan.countUnits > 0 ? [clipSegment(plan.countUnits)] : [];
  return {
    protocol: 'covey/1',
    runId,
    round: number.round,
    purpose: purposeOf(session),
    attempt: number.attempt,
    groupId: groupIdOf(config, groupOf(session)),
    mode: config.clusters?.open !== undefined ? 'open' : bodyLayers(config.model) === 0 ? 'hidden' : 'hybrid',
    slots,
    layout: [...sessionBlocks(config, session, slots).map(({ segment, length }) => ({ segment, length })), ...counted],
    modelHash: hashParts(crypto, utf8(LABELS.order), encodeOrder(order)),
    taskHash: taskHash(crypto, facts.config, session),
    rosterHash: rosterHash(crypto, roster),
    rosterVersion: roster.version,
    ring: { lanes, bits: lanes === 2 ? 32 : lanes === 3 ? 21 : 16 },
    encoding: {
      clippingNorm: training ? clip.clippingNorm : 1,
      scale: training ? clip.scale : scale,
      rotationSeed: hashParts(crypto, utf8(LABELS.rotation), fromHex(runId), u32le(number.round)),
      rounding: training ? roundingOf(config) : 'none',
    },
    // No shares: seats depend on no data, and updates of organizations that add noise themselves carry it.
    noise: {
      mechanism: shareVariance === 0 ? 'none' : mechanismOf(config),
      shareVariance,
      ...(tolerance === undefined ? {} : { tolerance }),
    },
    minSurvivors: config.cohort.minSurvivors,
    minOrgs: config.cohort.minOrgs,
    colluders: config.cohort.colluders,
    dropoutFraction: 1 - config.cohort.minSurvivors / groupMembers(crypto, facts, groupOf(session)).length,
    maxLoss: config.cohort.maxLoss,
    profile: config.cohort.profile,
    deadlineMs: config.deadlineMs,
  };
}
