import { compareBytes, equalBytes, fromHex, hashParts, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { LABELS } from '../../protocol/labels.ts';
import type { Roster, RosterEntry } from '../../protocol/session.ts';
import type { RunConfig } from './config.ts';

/*
 * A step may be spread over several sessions, one for each group. Groups are disjoint and each carries enough noise by
 * itself: the server sees the sum of every group, so nothing that another group adds counts against it (SPEC section 5).
 */

/** Number of groups of a step: clusters in the open, parts of a large cohort, or one. */
export function groupCount({ clusters, cohort }: RunConfig): number {
  return clusters?.open?.length ?? cohort.groups;
}

/** Most participants of one session. */
export function largestGroup({ clusters, cohort }: RunConfig): number {
  return Math.max(
    ...(clusters?.open?.map((names) => names.length) ?? [Math.ceil(cohort.participants / cohort.groups)]),
  );
}

/** Identifier of a group on the wire. */
export function groupIdOf(config: RunConfig, group: number): string {
  if (config.clusters?.open !== undefined) return `cluster-${group}`;
  return config.cohort.groups === 1 ? 'all' : `group-${group}`;
}

/**
 * Members of a group. Clusters in the open are what the configuration declares; parts of a cohort are cut from the roster
 * in the order of hashes over the run, so that nobody chooses their neighbours. Sizes differ by at most one.
 */
export function groupMembers(
  crypto: CryptoProvider,
  facts: { readonly config: RunConfig; readonly roster: Roster; readonly runId: string },
  group: number,
): readonly RosterEntry[] {
  const { config, roster, runId } = facts;
  const { open } = config.clusters ?? {};
  if (open !== undefined) {
    const organizations = new Set(open[group]);
    return roster.entries.filter(({ organization }) => organizations.has(organization));
  }
  const { groups } = config.cohort;
  if (groups === 1) return roster.entries;
  const order = roster.entries
    .map((entry) => ({ entry, rank: hashParts(crypto, utf8(LABELS.group), fromHex(runId), entry.id) }))
    .sort((a, b) => compareBytes(a.rank, b.rank));
  const from = (part: number): number => Math.floor((part * order.length) / groups);
  return order.slice(from(group), from(group + 1)).map(({ entry }) => entry);
}

/** True if a member belongs to a group. */
export function isInGroup(members: readonly RosterEntry[], id: Uint8Array): boolean {
  return members.some((entry) => equalBytes(entry.id, id));
}
