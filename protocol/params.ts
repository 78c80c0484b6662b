import {
  concatBytes,
  decodeParts,
  encodeParts,
  f64le,
  fromHex,
  fromUtf8,
  hashParts,
  readU32le,
  toHex,
  u8,
  u32le,
  utf8,
} from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { CoveyError } from './errors.ts';
import { LABELS } from './labels.ts';
import { LIMITS } from './limits.ts';
import { laneBits } from './ring.ts';
import type { ClusterMode, Lanes, NoiseMechanism, Profile, Purpose, SessionParams } from './session.ts';

const PURPOSES: readonly Purpose[] = ['census', 'train', 'metrics'];
const MODES: readonly ClusterMode[] = ['hybrid', 'hidden', 'open'];
const PROFILES: readonly Profile[] = ['strict', 'sparse'];
const ROUNDINGS: readonly SessionParams['encoding']['rounding'][] = [
  'toward-zero',
  'conditional',
  'none',
  'float-bounded',
];
const MECHANISMS: readonly NoiseMechanism[] = ['discrete-gaussian', 'none', 'skellam'];

export { nodeId, rosterHash } from './roster.ts';

/** Number of ring coordinates of the summed vector. */
export function coordinateCount(params: Pick<SessionParams, 'layout'>): number {
  return params.layout.reduce((total, { length }) => total + length, 0);
}

/** Canonical bytes of the parameters: 25 length-prefixed fields in the order of SPEC section 2. */
export function encodeParams(params: SessionParams): Uint8Array {
  const { encoding, noise } = params;
  return encodeParts([
    utf8(params.protocol),
    fromHex(params.runId),
    u32le(params.round),
    u8(PURPOSES.indexOf(params.purpose)),
    u8(params.attempt),
    utf8(params.groupId),
    u8(MODES.indexOf(params.mode)),
    u32le(params.slots),
    encodeParts(params.layout.flatMap(({ segment, length }) => [utf8(segment), u32le(length)])),
    params.modelHash,
    params.taskHash,
    params.rosterHash,
    u32le(params.rosterVersion),
    u8(params.ring.lanes),
    concatBytes(f64le(encoding.clippingNorm), f64le(encoding.scale)),
    encoding.rotationSeed,
    u8(ROUNDINGS.indexOf(encoding.rounding)),
    concatBytes(
      u8(MECHANISMS.indexOf(noise.mechanism)),
      f64le(noise.shareVariance),
      noise.tolerance === undefined ? new Uint8Array(0) : u32le(noise.tolerance),
    ),
    u32le(params.minSurvivors),
    u32le(params.minOrgs),
    u32le(params.colluders),
    f64le(params.dropoutFraction),
    u32le(params.maxLoss),
    utf8(params.profile),
    u32le(params.deadlineMs),
  ]);
}

function wrong(field: string, expected: string): never {
  throw new CoveyError('CODEC_TYPE', `"${field}" expected ${expected}`);
}

function readF64(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(at, true);
}

/**
 * Reads parameters; only the canonical bytes of parameters that make sense by themselves are accepted.
 * @throws CoveyError CODEC_*
 */
export function decodeParams(bytes: Uint8Array): SessionParams {
  const parts = decodeParts(bytes, 25);
  const part = (index: number, length?: number): Uint8Array => {
    const value = parts[index] as Uint8Array;
    if (length !== undefined && value.length !== length) wrong(`params[${index}]`, `${length} bytes`);
    return value;
  };
  const u32 = (index: number): number => readU32le(part(index, 4), 0);
  const choice = <T>(options: readonly T[], field: Uint8Array, name: string): T =>
    options[field[0] ?? 255] ?? wrong(name, 'a known value');
  const layoutParts = decodeParts(part(8));
  const layout: { segment: string; length: number }[] = [];
  for (let i = 0; i < layoutParts.length; i += 2) {
    layout.push({
      segment: fromUtf8(layoutParts[i] as Uint8Array),
      length: readU32le(layoutParts[i + 1] ?? wrong('layout', 'pairs'), 0),
    });
  }
  const lanes = part(13, 1)[0] as Lanes;
  if (lanes !== 2 && lanes !== 3 && lanes !== 4) wrong('ring.lanes', '2, 3 or 4');
  if (fromUtf8(part(0)) !== 'covey/1') throw new CoveyError('PROTO_VERSION', '"protocol" expected covey/1');
  const profile = PROFILES.find((known) => known === fromUtf8(part(23))) ?? wrong('profile', 'strict or sparse');
  const scales = part(14, 16);
  const noise = part(17);
  const isRemovable = noise.length === 13;
  if (noise.length !== 9 && !isRemovable) wrong('params[17]', '9 or 13 bytes');
  const params: SessionParams = {
    protocol: 'covey/1',
    runId: toHex(part(1, 16)),
    round: u32(2),
    purpose: choice(PURPOSES, part(3, 1), 'purpose'),
    attempt: part(4, 1)[0] as number,
    groupId: fromUtf8(part(5)),
    mode: choice(MODES, part(6, 1), 'mode'),
    slots: u32(7),
    layout,
    modelHash: part(9, 32).slice(),
    taskHash: part(10, 32).slice(),
    rosterHash: part(11, 32).slice(),
    rosterVersion: u32(12),
    ring: { lanes, bits: laneBits(lanes) },
    encoding: {
      clippingNorm: readF64(scales, 0),
      scale: readF64(scales, 8),
      rotationSeed: part(15, 32).slice(),
      rounding: choice(ROUNDINGS, part(16, 1), 'rounding'),
    },
    noise: {
      mechanism: choice(MECHANISMS, noise, 'noise.mechanism'),
      shareVariance: readF64(noise, 1),
      ...(isRemovable ? { tolerance: readU32le(noise, 9) } : {}),
    },
    minSurvivors: u32(18),
    minOrgs: u32(19),
    colluders: u32(20),
    dropoutFraction: readF64(part(21, 8), 0),
    maxLoss: u32(22),
    profile,
    deadlineMs: u32(24),
  };
  const coordinates = coordinateCount(params);
  if (coordinates < 1 || coordinates > LIMITS.coordinates || layout.length > LIMITS.msgpackItems)
    wrong('layout', `1 to ${LIMITS.coordinates} coordinates`);
  if (params.slots < 1 || params.slots > LIMITS.slots) wrong('slots', `1 to ${LIMITS.slots}`);
  if (params.attempt >= LIMITS.attempts) wrong('attempt', `less than ${LIMITS.attempts}`);
  if (params.deadlineMs < 1 || params.deadlineMs > LIMITS.maxDeadlineMs)
    wrong('deadlineMs', `1 to ${LIMITS.maxDeadlineMs}`);
  const cohort = profile === 'strict' ? LIMITS.cohort : LIMITS.sparseCohort;
  if (params.minSurvivors < 1 || params.minSurvivors > cohort) wrong('minSurvivors', `1 to ${cohort}`);
  if (params.minOrgs < 1 || params.minOrgs > params.minSurvivors) wrong('minOrgs', `1 to ${params.minSurvivors}`);
  if (params.colluders >= params.minSurvivors) wrong('colluders', `less than ${params.minSurvivors}`);
  if (params.groupId.length > LIMITS.keyBytes) wrong('groupId', `at most ${LIMITS.keyBytes} characters`);
  const numbers = [
    params.encoding.clippingNorm,
    params.encoding.scale,
    params.noise.shareVariance,
    params.dropoutFraction,
  ];
  if (!numbers.every((value) => Number.isFinite(value) && value >= 0))
    wrong('params', 'finite numbers that are not negative');
  if (params.dropoutFraction > 1) wrong('dropoutFraction', 'at most 1');
  if (params.noise.mechanism === 'none' && params.noise.shareVariance !== 0)
    wrong('noise.shareVariance', '0 without a mechanism');
  const { mechanism, tolerance } = params.noise;
  if (tolerance !== undefined) {
    if (tolerance < 1 || tolerance > LIMITS.tolerance) wrong('noise.tolerance', `1 to ${LIMITS.tolerance}`);
    // A sum of discrete Gaussians is none: only Skellam noise may be put together from parts. privacy F19
    if (mechanism !== 'skellam') wrong('noise.tolerance', 'none without Skellam noise');
  }
  return params;
}

/** Session identifier: binds every later message to these parameters. @see SPEC section 2 */
export function sessionId(crypto: Pick<CryptoProvider, 'sha256'>, params: SessionParams): Uint8Array {
  return hashParts(crypto, utf8(LABELS.session), encodeParams(params));
}

/** What orders the sessions of a run: round, then purpose, then attempt. */
type SessionOrderKey = Pick<SessionParams, 'round' | 'purpose' | 'attempt'>;

/**
 * Checks that a session is newer than the newest one entered for the run, whatever the group, and that no upload of its
 * (round, purpose) has begun. @throws CoveyError PROTO_ROUND @see SPEC section 2
 */
export function requireNewer(
  last: (SessionOrderKey & { readonly uploaded: boolean }) | undefined,
  next: SessionOrderKey,
): void {
  if (last === undefined) return;
  const key = ({ round, purpose, attempt }: SessionOrderKey): number[] => [round, PURPOSES.indexOf(purpose), attempt];
  const [before, now] = [key(last), key(next)];
  const at = now.findIndex((value, i) => value !== before[i]);
  if (at < 0 || (now[at] as number) < (before[at] as number)) {
    throw new CoveyError('PROTO_ROUND', `"round" expected later than ${before.join('/')}, got ${now.join('/')}`);
  }
  // Once an upload has begun its number is spent: a retry is a new round with fresh noise and a new charge.
  if (last.uploaded && at === 2)
    throw new CoveyError('PROTO_ROUND', `"round" ${next.round} (${next.purpose}) is spent by an upload`);
}
