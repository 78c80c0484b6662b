import { toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { checkpointOf, logOrigin } from './checkpoint.ts';
import { type ProtectedAccuracy, protectedAccuracies } from './metrics.ts';
import { lossByPath, lossOverRounds, type PathLoss } from './privacy-loss.ts';
import { LOG_FILE, readLog, splitLines } from './read-log.ts';
import { createRecomposer } from './recompose.ts';
import { type RunHistory, replayLog, type SessionHistory } from './replay.ts';
import type { RunResults } from './results.ts';

/** How one session ended. `phase` and `reason` only where it was aborted. */
export interface SessionFacts {
  readonly round: number;
  readonly attempt: number;
  readonly kind: string;
  readonly step: number;
  readonly invited: number;
  readonly survivors: number | null;
  readonly threshold: number | null;
  readonly ended: 'released' | 'aborted' | 'unfinished';
  readonly phase: string | null;
  readonly reason: string | null;
  readonly charged: boolean;
}

/** Two consecutive releases of one group whose survivors differ in a few members. */
export interface CloseReleases {
  readonly group: string;
  readonly rounds: readonly [number, number];
  /** Members in one of the two sums only: at least 1, below the fewest survivors of a session. */
  readonly differing: number;
}

/** Everything that the report says; a function of `log.jsonl` and `results.json`, nothing else. */
export interface ReportFacts {
  readonly history: RunHistory;
  readonly results: RunResults;
  readonly sessions: readonly SessionFacts[];
  readonly closeReleases: readonly CloseReleases[];
  /** Empty in a run without metrics. */
  readonly protectedAccuracies: readonly ProtectedAccuracy[];
  /** Largest loss of any member through each path. */
  readonly pathLosses: readonly PathLoss[];
  readonly epsilonServer: readonly { readonly round: number; readonly epsilon: number }[];
  readonly epsilonRelease: readonly { readonly round: number; readonly epsilon: number }[];
  readonly logEntries: number;
  /** Hex RFC 6962 root over the log. */
  readonly logRoot: string;
}

function sessionFacts(session: SessionHistory): SessionFacts {
  const { params, opened, release, abort, charge } = session;
  return {
    round: params.round,
    attempt: params.attempt,
    kind: session.kind,
    step: opened.body.step,
    invited: opened.body.invited,
    survivors: release?.body.survivors ?? null,
    threshold: release?.body.threshold ?? null,
    ended: release !== undefined ? 'released' : abort !== undefined ? 'aborted' : 'unfinished',
    phase: abort?.body.phase ?? null,
    reason: abort?.body.reason ?? null,
    charged: charge !== undefined,
  };
}

/** What differencing of consecutive releases leaves to the noise alone. @see threat-model.md, differences of consecutive releases */
function closeReleases({ sessions, open }: RunHistory): CloseReleases[] {
  const found: CloseReleases[] = [];
  const latest = new Map<string, SessionHistory>();
  for (const session of sessions) {
    if (session.kind !== 'train' || session.release === undefined) continue;
    const { groupId: group, round } = session.params;
    const before = latest.get(group);
    latest.set(group, session);
    const now = new Set(session.charge?.body.survivors);
    const then = before?.charge?.body.survivors;
    if (before === undefined || then === undefined) continue;
    const kept = then.filter((id) => now.has(id)).length;
    const differing = then.length + now.size - 2 * kept;
    if (differing > 0 && differing < open.plan.minSurvivors)
      found.push({ group, rounds: [before.params.round, round], differing });
  }
  return found;
}

/** Facts of a run whose log was replayed already. */
export function factsOf(
  history: RunHistory,
  results: RunResults,
  log: Uint8Array,
  crypto: CryptoProvider,
): ReportFacts {
  const recomposer = createRecomposer(history.open.plan.relation);
  const leaves = splitLines(LOG_FILE, log).map(({ bytes }) => bytes);
  const { root, size } = checkpointOf(logOrigin(history.federation, history.run), leaves, crypto);
  return {
    history,
    results,
    sessions: history.sessions.map(sessionFacts),
    closeReleases: closeReleases(history),
    protectedAccuracies: protectedAccuracies(history),
    pathLosses: lossByPath(history, recomposer),
    epsilonServer: lossOverRounds(history, recomposer, 'server'),
    epsilonRelease: lossOverRounds(history, recomposer, 'release'),
    logEntries: size,
    logRoot: toHex(root),
  };
}

/**
 * Facts of a run from the text of its `log.jsonl` and its results.
 * @throws CoveyError AUDIT_FAILED where the log breaks a rule; no report is written over a broken log.
 */
export function reportFacts(log: string, results: RunResults, crypto: CryptoProvider): ReportFacts {
  const bytes = utf8(log);
  return factsOf(replayLog(readLog(bytes, crypto), crypto), results, bytes, crypto);
}
