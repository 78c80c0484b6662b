import { byteString, equalBytes } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';

/** Five phases of the largest strict cohort; beyond that the oldest is forgotten and would be verified again. */
const MOST_REMEMBERED = 2_048;

/**
 * A provider that verifies the same signature once: a coordinator checks each message as it arrives, and again as part of
 * the list that it becomes. Only what verified is remembered, and all of it (signature, message and key) is compared;
 * anything else goes to `crypto`. All three are public.
 */
export function rememberVerified(crypto: CryptoProvider): CryptoProvider {
  const verified = new Map<string, { readonly message: Uint8Array; readonly publicKey: Uint8Array }>();
  return {
    ...crypto,
    ed25519Verify(signature, message, publicKey) {
      const name = byteString(signature);
      const known = verified.get(name);
      if (known !== undefined && equalBytes(known.message, message) && equalBytes(known.publicKey, publicKey))
        return true;
      if (!crypto.ed25519Verify(signature, message, publicKey)) return false;
      if (verified.size >= MOST_REMEMBERED) verified.delete(verified.keys().next().value as string);
      verified.set(name, { message: message.slice(), publicKey: publicKey.slice() });
      return true;
    },
  };
}
