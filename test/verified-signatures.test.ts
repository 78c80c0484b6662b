import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { rememberVerified } from '../protocol/verified-signatures.ts';

const seed = new Uint8Array(32).fill(7);
const key = nodeCrypto.ed25519PublicKey(seed);
const message = new Uint8Array(32).fill(1);
const signature = nodeCrypto.ed25519Sign(message, seed);

function counting(): { crypto: CryptoProvider; calls: () => number } {
  let calls = 0;
  const ed25519Verify: CryptoProvider['ed25519Verify'] = (...args) => {
    calls += 1;
    return nodeCrypto.ed25519Verify(...args);
  };
  return { crypto: rememberVerified({ ...nodeCrypto, ed25519Verify }), calls: () => calls };
}

describe('remembered signatures', () => {
  it('verify once', () => {
    const { crypto, calls } = counting();
    expect([crypto.ed25519Verify(signature, message, key), crypto.ed25519Verify(signature, message, key)]).toEqual([
      true,
      true,
    ]);
    expect(calls()).toBe(1);
  });

  it('say nothing about another message, key or signature, nor about what was refused', () => {
    const { crypto, calls } = counting();
    crypto.ed25519Verify(signature, message, key);
    const other = nodeCrypto.ed25519PublicKey(message);
    const forged = signature.slice();
    forged[0] = (forged[0] ?? 0) ^ 1;
    expect(crypto.ed25519Verify(signature, new Uint8Array(32), key)).toBe(false);
    expect(crypto.ed25519Verify(signature, message, other)).toBe(false);
    expect(crypto.ed25519Verify(forged, message, key)).toBe(false);
    expect(crypto.ed25519Verify(forged, message, key)).toBe(false);
    expect(calls()).toBe(5);
  });

  it('keep copies: bytes that change afterwards are judged anew', () => {
    const { crypto } = counting();
    const own = message.slice();
    crypto.ed25519Verify(signature, own, key);
    own.fill(9);
    expect(crypto.ed25519Verify(signature, own, key)).toBe(false);
  });
});
