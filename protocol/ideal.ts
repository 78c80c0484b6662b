import { compareBytes, fromHex } from './bytes.ts';
import { CoveyError } from './errors.ts';
import { coordinateCount } from './params.ts';
import { addWords, ringWordCount } from './ring.ts';
import type { SessionParams } from './session.ts';

/** Members that vanish, by hex id, and the message they do not send any more. */
export type SessionDrops = Readonly<Partial<Record<'advertise' | 'share-keys' | 'masked-input' | 'consistency' | 'unmask', readonly string[]>>>;

export interface SecureSumResult {
  readonly sum: Uint32Array;
  /** U3 in order of id. */
  readonly survivors: readonly Uint8Array[];
}

/**
 * Contributions and dropouts in, ring sum and survivors out: what every secure aggregation promises.
 * Contributions by hex id, packed. @throws CoveyError ROUND_BELOW_THRESHOLD
 */
export type SecureSum = (params: SessionParams, contributions: ReadonlyMap<string, Uint32Array>, drops: SessionDrops) => SecureSumResult;

/** The ideal aggregator: the plain ring sum, without masks; the real protocol returns the same bits. */
export const idealSum: SecureSum = (params, contributions, drops) => {
  const isLost = (id: string, ...phases: (keyof SessionDrops)[]): boolean => phases.some((phase) => drops[phase]?.includes(id) === true);
  const u1 = [...contributions.keys()].filter((id) => !isLost(id, 'advertise'));
  const threshold = Math.floor((2 * u1.length) / 3) + 1;
  const u3 = u1.filter((id) => !isLost(id, 'share-keys', 'masked-input'));
  const needed = Math.max(threshold, params.minSurvivors);
  if (u3.length < needed) throw new CoveyError('ROUND_BELOW_THRESHOLD', `"survivors" expected at least ${needed}, got ${u3.length}`);
  const signers = u3.filter((id) => !isLost(id, 'consistency'));
  const openers = signers.filter((id) => !isLost(id, 'unmask'));
  if (signers.length < threshold || openers.length < threshold) throw new CoveyError('ROUND_BELOW_THRESHOLD', `"openings" expected at least ${threshold}, got ${openers.length}`);
  const sum = new Uint32Array(ringWordCount(coordinateCount(params), params.ring.lanes));
  for (const id of u3) addWords(sum, contributions.get(id) as Uint32Array, params.ring.lanes);
  return { sum, survivors: u3.map(fromHex).sort(compareBytes) };
};

