import { fromUtf8, utf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Store } from '../../src/run/store.ts';
import { ledgerStream } from './charge-book.ts';
import type { SitePolicy } from './policy.ts';

/* Runs add up: each may cost a whole budget, and the coordinator decides how many there are. */

const RUNS_STREAM = 'runs';

/** Most runs that a site pays in: one, unless a budget limits all of them together or the site says how many. */
function mostRuns({ datasetBudget, maxRuns }: SitePolicy): number {
  return maxRuns ?? (datasetBudget === undefined ? 1 : Number.POSITIVE_INFINITY);
}

/**
 * Remembers a run before its first charge, and returns the runs that this site paid in before.
 * @throws CoveyError PRIVACY_POLICY if the policy has no room for another one.
 */
export async function joinRun(store: Store, policy: SitePolicy, runId: string): Promise<readonly string[]> {
  const known = (await store.read(RUNS_STREAM)).map(({ payload }) => fromUtf8(payload));
  const charged: string[] = [];
  for (const earlier of known) {
    // The first line opens a ledger; whatever follows was charged.
    if (earlier !== runId && (await store.read(ledgerStream(earlier), 1)).length > 0) charged.push(earlier);
  }
  const most = mostRuns(policy);
  if (charged.length >= most) {
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"maxRuns" expected at most ${most} ${most === 1 ? 'run' : 'runs'} on the data of this site, which paid in ${charged.length} before; hint: policy.datasetBudget limits what all runs may spend together, policy.maxRuns how many there may be`,
      { field: 'maxRuns' },
    );
  }
  if (!known.includes(runId)) await store.append(RUNS_STREAM, utf8(runId));
  return charged;
}
