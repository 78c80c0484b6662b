import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { AUDIT_EXIT_CODES } from '../../src/audit/failures.ts';
import { verifyBundle } from '../../src/audit/verifier.ts';
import { createBundle, readerOf } from '../support/bundle.ts';

/** Remembers signatures that were checked: nearly all lines are the same in all trials. */
function remembering(crypto: CryptoProvider): CryptoProvider {
  const known = new Map<string, boolean>();
  return {
    ...crypto,
    sha256: (data) => crypto.sha256(data),
    ed25519Verify(signature, message, publicKey) {
      const key = `${toHex(signature)}/${toHex(message)}/${toHex(publicKey)}`;
      const valid = known.get(key) ?? crypto.ed25519Verify(signature, message, publicKey);
      known.set(key, valid);
      return valid;
    },
  };
}

describe('every byte of the log', () => {
  it('makes the audit fail at its line when one of its bits changes', async () => {
    // The opening, a seat lottery, a retried training step and a choice: every kind of entry that a run writes as a rule.
    const { files } = createBundle({ lines: (lines) => lines.slice(0, 42) });
    const log = files.get('log.jsonl') as Uint8Array;
    const crypto = remembering(nodeCrypto);
    for (let position = 0; position < log.length; position++) {
      const changed = log.slice();
      changed[position] = (changed[position] as number) ^ (1 << (position % 8));
      const { exitCode, failure } = await verifyBundle(readerOf(new Map(files).set('log.jsonl', changed)), crypto);
      const located =
        failure !== null && (failure.byte ?? log.length) <= position && position <= (failure.endByte ?? -1);
      if (exitCode !== AUDIT_EXIT_CODES.files || !located) expect(failure).toBe(`byte ${position}`);
    }
  });
});
