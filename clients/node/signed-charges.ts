import { join } from 'node:path';
import { readStreamsOfCopy } from '../../platform/node/store-copy.ts';
import { fromUtf8 } from '../../protocol/bytes.ts';
import { chargeStream } from '../core/charge-book.ts';

/** The signed charges of one run, as an audit reads them. */
interface SignedCharges {
  /** Hex id of the member that signed; null before the first charge. */
  readonly member: string | null;
  /** A JSON line for each charge. */
  readonly lines: string;
}

/** The signed charges in a node's state folder, by run; from a copy, so that the node may be running. */
export async function readSignedCharges(state: string): Promise<ReadonlyMap<string, SignedCharges>> {
  const prefix = chargeStream('');
  const streams = await readStreamsOfCopy(join(state, 'node.sqlite'), prefix);
  return new Map(
    [...streams].map(([name, payloads]) => {
      const entries = payloads.map(fromUtf8);
      const [first] = entries;
      const member = first === undefined ? null : (JSON.parse(first) as { readonly actor: string }).actor;
      return [name.slice(prefix.length), { member, lines: entries.map((entry) => `${entry}\n`).join('') }];
    }),
  );
}
