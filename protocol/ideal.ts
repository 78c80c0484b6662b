import { compareBytes, fromHex } from './bytes.ts';
import { CoveyError } from './errors.ts';
import { coordinateCount } from './params.ts';
import { addWords, ringWordCount } from './ring.ts';
import { rankOf, sparseQuorum, strictThreshold } from './roster.ts';
import type { Phase, Roster, SessionParams } from './session.ts';

/** Members that vanish, by hex id, and the phase whose message they do not send any more. */
export type SessionDrops = Readonly<Partial<Record<Phase, readonly string[]>>>;

export interface SecureSumResult {
  readonly sum: Uint32Array;
  /** U3 in order of id. */
  readonly survivors: readonly Uint8Array[];
}

/**
 * Contributions and dropouts in, ring sum and survivors out: what every secure aggregation promises.
 * Shapes: contributions by hex id, packed. `roster`: needed where `minOrgs` is more than 1.
 * @throws CoveyError ROUND_BELOW_THRESHOLD
 */
export type SecureSum = (
  params: SessionParams,
  contributions: ReadonlyMap<string, Uint32Array>,
  drops: SessionDrops,
  roster?: Roster,
) => SecureSumResult;

function require(name: string, got: number, fewest: number): void {
  if (got < fewest) throw new CoveyError('ROUND_BELOW_THRESHOLD', `"${name}" expected at least ${fewest}, got ${got}`);
}

/**
 * The ideal aggregator: the plain ring sum, without masks; the real protocol returns the same bits, and gives up when
 * this one does; in the sparse profile also where its graph is cut or a reveal is missing. Not guaranteed: anything about
 * who sees the contributions; it is for simulations.
 */
export const idealSum: SecureSum = (params, contributions, drops, roster) => {
  const without = (ids: readonly string[], phase: Phase): string[] =>
    ids.filter((id) => drops[phase]?.includes(id) !== true);
  const requireSize = (name: string, ids: readonly string[], fewest: number): void => {
    require(name, ids.length, Math.max(fewest, params.minSurvivors));
    if (roster === undefined) return;
    const organizations = new Set(ids.map((id) => roster.entries[rankOf(roster.entries, fromHex(id))]?.organization));
    require('organizations', organizations.size, params.minOrgs);
  };
  const u1 = without([...contributions.keys()], 'advertise');
  const isStrict = params.profile === 'strict';
  const quorum = isStrict ? strictThreshold(u1.length) : sparseQuorum(u1.length, params.colluders);
  requireSize('U1', u1, quorum);
  if (isStrict) require('U1', u1.length, 3 * params.colluders + 1);
  const u2 = without(u1, 'share-keys');
  requireSize('U2', u2, quorum);
  const u3 = without(u2, 'masked-input');
  requireSize('U3', u3, quorum);
  const { tolerance } = params.noise;
  if (tolerance !== undefined) require('U3', u3.length, u2.length - tolerance);
  const signers = without(u3, 'consistency');
  require('signers', signers.length, quorum);
  if (isStrict) require('openings', without(signers, 'unmask').length, quorum);
  const sum = new Uint32Array(ringWordCount(coordinateCount(params), params.ring.lanes));
  for (const id of u3) addWords(sum, contributions.get(id) as Uint32Array, params.ring.lanes);
  return { sum, survivors: u3.map(fromHex).sort(compareBytes) };
};
