import type { CryptoProvider } from '../protocol/crypto-provider.ts';

/**
 * A provider that verifies each signature once: all members of one process check the same lists, which is most of the work
 * of a large session in memory. Nothing else changes; a signature that was never seen is verified for real.
 */
export function rememberingVerifications(crypto: CryptoProvider): CryptoProvider {
  const verdicts = new Map<string, boolean>();
  const text = (bytes: Uint8Array): string =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  return {
    ...crypto,
    ed25519Verify(signature, message, publicKey) {
      const name = text(signature) + text(message) + text(publicKey);
      const known = verdicts.get(name) ?? crypto.ed25519Verify(signature, message, publicKey);
      verdicts.set(name, known);
      return known;
    },
  };
}
