import { nodeCrypto } from '../../platform/node/crypto.ts';
import type { RandomSource } from '../../protocol/crypto-provider.ts';

/** The same stream of seeds for every run with this key, so that two runs can be compared bit for bit. */
export function repeatable(key: number): RandomSource {
  const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(key));
  return (length) => {
    const bytes = new Uint8Array(length);
    stream.read(bytes);
    return bytes;
  };
}
