import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { rdpAccountant } from '../privacy/accountant.ts';
import type { View } from '../privacy/views.ts';
import { totalLoss } from './privacy-loss.ts';
import { readLog } from './read-log.ts';
import { type RunHistory, replayLog } from './replay.ts';
import type { RunResults } from './results.ts';

const NOTE =
  'No accuracy is stated here: what organizations measure stays with them, unless the run released it as charged sums (below).';

function lossOf(history: RunHistory, view: View, id: string): number {
  const { delta, relation } = history.open.plan;
  return totalLoss(history, view)
    .chargesOf(id)
    .reduce((spent, { event, count }) => spent.compose(event, count), rdpAccountant({ relation }))
    .epsilon(Number(delta));
}

/** Counts of the last choice of slots, noise included. */
function lastCounts({ sessions }: RunHistory): readonly number[] {
  const last = sessions.findLast(({ census, kind }) => kind === 'choice' && census !== undefined);
  return last?.census?.body.counts.map(Number) ?? [];
}

/**
 * What a run may say of itself by its log alone: the loss of every participant in each view, and what was released.
 * @throws CoveyError AUDIT_FAILED where the log breaks a rule.
 */
export function resultsOfLog(log: Uint8Array, crypto: CryptoProvider): RunResults {
  const history = replayLog(readLog(log, crypto), crypto);
  const delta = Number(history.open.plan.delta);
  const perParticipant = Object.fromEntries(
    history.genesis.members.map(({ id }) => [
      id,
      { server: lossOf(history, 'server', id), release: lossOf(history, 'release', id) },
    ]),
  );
  const worst = (view: View): number => Math.max(0, ...Object.values(perParticipant).map((loss) => loss[view]));
  return {
    claims: {
      server: { epsilon: worst('server'), delta },
      release: { epsilon: worst('release'), delta },
      perParticipant,
    },
    table: [],
    accuracyOverRounds: [],
    lost: [],
    clusters: lastCounts(history).map((noisyCount, slot) => ({
      slot,
      noisyCount,
      line: `a noisy sum of gradients at every step and a noisy count of about ${Math.max(0, noisyCount).toFixed(1)} members`,
    })),
    note: NOTE,
  };
}
