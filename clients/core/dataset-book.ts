import { fromUtf8, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import {
  type DatasetBudget,
  type DatasetCharge,
  openDatasetLedger,
  reserveDataset,
  type SeenHead,
  settleDataset,
} from '../../src/privacy/dataset-ledger.ts';
import type { Store, StoreOperations } from '../../src/run/store.ts';

/** Where the last head is kept outside of the store, so that a restored store is noticed. */
export interface HeadKeeper {
  load(): Promise<SeenHead | null>;
  save(head: SeenHead): Promise<void>;
}

/** The charges of all runs of a node to one data set, beside the ledger of each run. */
export interface DatasetBook {
  readonly budget: DatasetBudget;
  /** Checks a charge and gives the write that belongs into the transaction of the run's ledger. @throws CoveyError PRIVACY_BUDGET */
  prepare(charge: DatasetCharge): { write(tx: StoreOperations): Promise<void>; commit(): Promise<void> };
}

const streamOf = (dataset: string): string => `dataset/${dataset}`;

/** Opens the ledger of a data set. @throws CoveyError PRIVACY_LEDGER if it is broken or behind the kept head. */
export async function openDatasetBook(
  store: Store,
  crypto: CryptoProvider,
  budget: DatasetBudget,
  heads: HeadKeeper,
): Promise<DatasetBook> {
  const stream = streamOf(budget.dataset);
  const lines = (await store.read(stream)).map(({ payload }) => fromUtf8(payload));
  const seen = await heads.load();
  let ledger = openDatasetLedger(crypto, budget, lines, seen);
  // Before the first charge: from here on a missing head means that it was lost.
  await heads.save({ size: ledger.size, head: ledger.head });
  return {
    budget,
    prepare(charge) {
      const step = (charge.kind === 'reserve' ? reserveDataset : settleDataset)(crypto, ledger, charge);
      return {
        write: async (tx) => void (await tx.append(stream, utf8(step.line))),
        async commit() {
          ledger = step.ledger;
          // After the store and before anything leaves: the kept head is never ahead of the store.
          await heads.save({ size: ledger.size, head: ledger.head });
        },
      };
    },
  };
}
