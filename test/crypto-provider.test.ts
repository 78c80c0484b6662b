import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../platform/noble/crypto.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { webCrypto } from '../platform/web/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { describeCryptoProvider } from './support/crypto-provider.ts';

describeCryptoProvider(nodeCrypto);
describeCryptoProvider(nobleCrypto);
describeCryptoProvider(webCrypto);

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

describe('both providers', () => {
  it('give the same keys, signatures and secrets', () => {
    fc.assert(
      fc.property(bytes(32), bytes(32), fc.uint8Array({ maxLength: 200 }), (a, b, message) => {
        expect(toHex(nodeCrypto.ed25519PublicKey(a))).toBe(toHex(nobleCrypto.ed25519PublicKey(a)));
        const signature = nodeCrypto.ed25519Sign(message, a);
        expect(toHex(nobleCrypto.ed25519Sign(message, a))).toBe(toHex(signature));
        expect(nobleCrypto.ed25519Verify(signature, message, nodeCrypto.ed25519PublicKey(a))).toBe(true);
        const peer = nobleCrypto.x25519PublicKey(b);
        expect(toHex(nodeCrypto.x25519PublicKey(b))).toBe(toHex(peer));
        expect(toHex(nodeCrypto.x25519Agree(a, peer))).toBe(toHex(nobleCrypto.x25519Agree(a, peer)));
      }),
      { numRuns: 25 },
    );
  });

  it('give the same hashes, derived keys, ciphertexts and keystreams', () => {
    const any = fc.uint8Array({ maxLength: 150 });
    fc.assert(
      fc.property(bytes(32), bytes(12), any, any, fc.integer({ min: 1, max: 300 }), (key, nonce, a, b, length) => {
        expect(toHex(nodeCrypto.sha256(a))).toBe(toHex(nobleCrypto.sha256(a)));
        expect(toHex(nodeCrypto.hkdfSha256(a, b, nonce, length))).toBe(
          toHex(nobleCrypto.hkdfSha256(a, b, nonce, length)),
        );
        const sealed = nodeCrypto.aes256GcmSeal(key, nonce, a, b);
        expect(toHex(nobleCrypto.aes256GcmSeal(key, nonce, a, b))).toBe(toHex(sealed));
        expect(toHex(nobleCrypto.aes256GcmOpen(key, nonce, a, sealed))).toBe(toHex(b));
        const [left, right] = [new Uint8Array(length), new Uint8Array(length)];
        nodeCrypto.aes256Ctr(key).read(left);
        nobleCrypto.aes256Ctr(key).read(right);
        expect(toHex(left)).toBe(toHex(right));
      }),
    );
  });

  it('judge any X25519 point alike', () => {
    const secret = new Uint8Array(32).fill(5);
    const agree = (provider: typeof nodeCrypto, point: Uint8Array): string => {
      try {
        return toHex(provider.x25519Agree(secret, point));
      } catch (error) {
        return String(error);
      }
    };
    fc.assert(
      fc.property(bytes(32), (point) => {
        expect(agree(nodeCrypto, point)).toBe(agree(nobleCrypto, point));
      }),
      { numRuns: 40 },
    );
  });
});

describe('nodeRandom', () => {
  it('gives fresh bytes of the asked length', () => {
    expect(nodeRandom(0).length).toBe(0);
    expect(toHex(nodeRandom(32))).not.toBe(toHex(nodeRandom(32)));
    expect(nodeRandom(100_000).length).toBe(100_000);
  });
});
