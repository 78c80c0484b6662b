import { hkdfSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { encodeParts, toHex, utf8 } from '../protocol/bytes.ts';
import {
  commitSelfSeed,
  commitShare,
  encryptionKey,
  expandEntropy,
  hashAdvertisements,
  hashDealers,
  hashUploads,
  pairMaskSeed,
  pairSign,
  selfMaskSeed,
} from '../protocol/key-schedule.ts';
import { bytesFrom } from './support/malice.ts';

const crypto = nodeCrypto;
type Bytes = Uint8Array;

/** Each derivation as a function of named 32-byte inputs. */
const derivations: Readonly<Record<string, { readonly inputs: readonly string[]; derive(...inputs: Bytes[]): Bytes }>> =
  {
    'commitment to b': {
      inputs: ['sid', 'id', 'b'],
      derive: (...[sid, id, b]) => commitSelfSeed(crypto, sid!, id!, b!),
    },
    'C^B': {
      inputs: ['sid', 'u', 'v', 'share', 'rho'],
      derive: (...[sid, u, v, share, rho]) => commitShare(crypto, 'shareB', sid!, u!, v!, share!, rho!),
    },
    'C^S': {
      inputs: ['sid', 'u', 'v', 'share', 'rho'],
      derive: (...[sid, u, v, share, rho]) => commitShare(crypto, 'shareS', sid!, u!, v!, share!, rho!),
    },
    'encryption key': {
      inputs: ['shared', 'sid', 'u', 'v'],
      derive: (...[shared, sid, u, v]) => encryptionKey(crypto, shared!, sid!, u!, v!),
    },
    'self mask': {
      inputs: ['b', 'sid', 'h2', 'u'],
      derive: (...[b, sid, h2, u]) => selfMaskSeed(crypto, b!, sid!, h2!, u!),
    },
    'pair mask': {
      inputs: ['shared', 'sid', 'h2', 'u', 'v'],
      derive: (...[shared, sid, h2, u, v]) => pairMaskSeed(crypto, shared!, sid!, h2!, u!, v!),
    },
    h1: { inputs: ['sid', 'body', 'body'], derive: (sid, ...bodies) => hashAdvertisements(crypto, sid!, bodies) },
    h2: {
      inputs: ['sid', 'h1', 'id', 'root'],
      derive: (...[sid, h1, id, root]) => hashDealers(crypto, sid!, h1!, [[id!, root!]]),
    },
    h3: {
      inputs: ['sid', 'h2', 'id', 'digest'],
      derive: (...[sid, h2, id, digest]) => hashUploads(crypto, sid!, h2!, [[id!, digest!]]),
    },
  };

describe('the key schedule', () => {
  for (const [name, { inputs, derive }] of Object.entries(derivations)) {
    it(`${name} depends on each of ${inputs.join(', ')}`, () => {
      const values = inputs.map((input, i) => bytesFrom(input, i));
      const base = toHex(derive(...values));
      expect(toHex(derive(...values))).toBe(base);
      inputs.forEach((_, i) => {
        const changed = values.map((value, k) => (k === i ? bytesFrom('changed', i) : value));
        expect(toHex(derive(...changed))).not.toBe(base);
      });
    });
  }

  it('gives every purpose its own value for the same inputs', () => {
    const one = bytesFrom('one');
    const outputs = Object.values(derivations).map(({ inputs, derive }) => toHex(derive(...inputs.map(() => one))));
    expect(new Set(outputs).size).toBe(outputs.length);
  });

  it('is HKDF-SHA256 over lists, as SPEC section 4 says', () => {
    const [b, sid, h2, u, v] = ['b', 'sid', 'h2', 'u', 'v'].map((name) => bytesFrom(name)) as [
      Bytes,
      Bytes,
      Bytes,
      Bytes,
      Bytes,
    ];
    const hkdf = (key: Bytes, ...info: Bytes[]): string =>
      toHex(new Uint8Array(hkdfSync('sha256', key, sid, encodeParts(info), 32)));
    const [low, high] = toHex(u) < toHex(v) ? [u, v] : [v, u];
    expect(toHex(selfMaskSeed(crypto, b, sid, h2, u))).toBe(hkdf(b, utf8('self'), h2, u));
    expect(toHex(pairMaskSeed(crypto, b, sid, h2, u, v))).toBe(hkdf(b, utf8('mask'), h2, low, high));
    expect(toHex(encryptionKey(crypto, b, sid, u, v))).toBe(hkdf(b, utf8('enc'), u, v));
    const { encryptionSecret, maskSecret, selfSeed, sharingKey } = expandEntropy(crypto, b, sid);
    const expanded = ['encryption', 'mask', 'self', 'sharing'].map((use) =>
      hkdf(b, utf8('covey/1 entropy'), utf8(use)),
    );
    expect([encryptionSecret, maskSecret, selfSeed, sharingKey].map(toHex)).toEqual(expanded);
  });

  it('gives both ends of a pair the same seed and opposite signs', () => {
    const [u, v] = [bytesFrom('u'), bytesFrom('v')];
    const [shared, sid, h2] = [bytesFrom('shared'), bytesFrom('sid'), bytesFrom('h2')];
    expect(pairMaskSeed(crypto, shared, sid, h2, u, v)).toEqual(pairMaskSeed(crypto, shared, sid, h2, v, u));
    expect(pairSign(u, v) + pairSign(v, u)).toBe(0);
  });
});
