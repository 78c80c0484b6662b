import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { describe, expect, it } from 'vitest';
import { type Primitives, withRules } from '../platform/crypto-rules.ts';
import { nobleCrypto } from '../platform/noble/crypto.ts';
import { isAcceptedSignature, isSmallOrder } from '../platform/noble/points.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { concatBytes, fromHex, u32le } from '../protocol/bytes.ts';

/*
 * A20 and A31: one rule for signatures on every provider: S < L, A and R canonical, encode(S*B - k*A) = R without the
 * cofactor. Signatures are built here from scalars and torsion points whose indices decide the expected verdict:
 * with A = aB + iT, R = rB + jT (T of order 8) and S = r + ka, the equation holds iff (k mod L) i + j = 0 mod 8.
 */

const PROVIDERS = [nodeCrypto, nobleCrypto];
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const P = 2n ** 255n - 19n;
const { Point } = ed25519;
type CurvePoint = InstanceType<typeof Point>;

const toInteger = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
const toBytes = (value: bigint): Uint8Array =>
  Uint8Array.from(Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse());
const multiple = (point: CurvePoint, scalar: bigint): CurvePoint =>
  scalar === 0n ? Point.ZERO : point.multiplyUnsafe(scalar);

// A point of order 8: L times a point with full torsion.
const TORSION = ((): CurvePoint => {
  for (let y = 2n; ; y++) {
    try {
      const point = Point.fromBytes(toBytes(y));
      const candidate = multiple(point, L - 1n).add(point);
      if (!candidate.double().double().is0()) return candidate;
    } catch {
      // No point has this y.
    }
  }
})();

interface Crafted {
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  readonly message: Uint8Array;
  readonly holds: boolean;
}

/** Signature with torsion i in A and j in R; `search` picks a message for which the equation holds or does not. */
function craft(a: bigint, r: bigint, i: number, j: number, search: boolean): Crafted | null {
  const publicKey = multiple(Point.BASE, a)
    .add(multiple(TORSION, BigInt(i)))
    .toBytes();
  const encodedR = multiple(Point.BASE, r)
    .add(multiple(TORSION, BigInt(j)))
    .toBytes();
  for (let tries = 0; tries < 200; tries++) {
    const message = u32le(tries);
    const k = toInteger(sha512(concatBytes(encodedR, publicKey, message))) % L;
    const holds = (Number(k % 8n) * i + j) % 8 === 0;
    if (holds === search)
      return { publicKey, message, holds, signature: concatBytes(encodedR, toBytes((r + k * a) % L)) };
  }
  return null;
}

const verdicts = ({ signature, message, publicKey }: Omit<Crafted, 'holds'>): boolean[] =>
  PROVIDERS.map((crypto) => crypto.ed25519Verify(signature, message, publicKey));

describe('A31: signatures with torsion are judged alike by all providers', () => {
  const secrets = [
    { a: 0x1234_5678_9abc_def0n, r: 0xfedc_ba98_7654_3210_0f1e_2d3cn, name: 'mixed order' },
    { a: 0n, r: 77n, name: 'A of small order' },
    { a: 99n, r: 0n, name: 'R of small order' },
    { a: 0n, r: 0n, name: 'both of small order' },
  ];
  for (const { a, r, name } of secrets) {
    it(`accepts exactly what satisfies the cofactorless equation: ${name}`, () => {
      let accepted = 0;
      let refused = 0;
      for (let i = 0; i < 8; i++) {
        for (let j = 0; j < 8; j++) {
          for (const search of [true, false]) {
            const crafted = craft(a, r, i, j, search);
            if (crafted === null) continue;
            expect(verdicts(crafted)).toEqual([crafted.holds, crafted.holds]);
            if (crafted.holds) accepted++;
            else refused++;
          }
        }
      }
      // Every torsion pair can miss unless both parts are zero; it can hit unless j is no multiple of i.
      expect(refused).toBe(63);
      expect(accepted).toBeGreaterThan(30);
    });
  }

  it('knows the eight points of small order, and no point of mixed order', () => {
    for (let i = 0; i < 8; i++) {
      const torsion = multiple(TORSION, BigInt(i));
      expect(isSmallOrder(torsion.toBytes())).toBe(true);
      expect(isSmallOrder(Point.BASE.add(torsion).toBytes())).toBe(false);
    }
  });

  // A platform that refuses every A or R of small order, as Node does from version 24, and one that accepts them all.
  for (const answer of [false, true]) {
    it(`does not ask the platform about points of small order (one that says ${answer})`, () => {
      const asked: Uint8Array[] = [];
      const primitives: Primitives = {
        ...nobleCrypto,
        ed25519Verify: (_, message) => {
          asked.push(message);
          return answer;
        },
      };
      const { ed25519Verify } = withRules(primitives);
      for (const [a, r] of [
        [0n, 77n],
        [99n, 0n],
        [0n, 0n],
      ] as const) {
        for (const search of [true, false]) {
          const crafted = craft(a, r, 1, 3, search);
          if (crafted === null) throw new Error('no message gives this torsion');
          expect(ed25519Verify(crafted.signature, crafted.message, crafted.publicKey)).toBe(search);
        }
      }
      expect(asked).toEqual([]);
      const mixed = craft(99n, 77n, 1, 3, true) as Crafted;
      expect(ed25519Verify(mixed.signature, mixed.message, mixed.publicKey)).toBe(answer);
      expect(asked).toEqual([mixed.message]);
    });
  }

  it('finds only keys without torsion fit for enrolment', () => {
    for (const crypto of PROVIDERS) {
      for (let i = 0; i < 8; i++) {
        const mixed = multiple(Point.BASE, 5n).add(multiple(TORSION, BigInt(i)));
        expect(crypto.ed25519IsPrimeOrder(mixed.toBytes())).toBe(i === 0);
        expect(crypto.ed25519IsPrimeOrder(multiple(TORSION, BigInt(i)).toBytes())).toBe(false);
      }
    }
  });
});

describe('A20: a signature has one form', () => {
  const seed = new Uint8Array(32).fill(42);
  const publicKey = nodeCrypto.ed25519PublicKey(seed);
  const message = u32le(7);
  const signature = nodeCrypto.ed25519Sign(message, seed);
  const s = toInteger(signature.subarray(32));

  it.each([1n, 2n, 7n, 15n])('refuses S + %d L', (factor) => {
    const raised = s + factor * L;
    if (raised >= 2n ** 256n) throw new Error('choose another seed');
    const changed = concatBytes(signature.subarray(0, 32), toBytes(raised));
    expect(verdicts({ signature: changed, message, publicKey })).toEqual([false, false]);
  });

  it('refuses S = L where S = 0 is right', () => {
    const zero = craft(0n, 0n, 0, 0, true) as Crafted;
    expect(verdicts(zero)).toEqual([true, true]);
    const changed = concatBytes(zero.signature.subarray(0, 32), toBytes(L));
    expect(verdicts({ ...zero, signature: changed })).toEqual([false, false]);
  });

  it('refuses -S and -R', () => {
    const negatedS = concatBytes(signature.subarray(0, 32), toBytes(L - s));
    const negatedR = signature.slice();
    negatedR[31] = (negatedR[31] as number) ^ 0x80;
    expect(verdicts({ signature: negatedS, message, publicKey })).toEqual([false, false]);
    expect(verdicts({ signature: negatedR, message, publicKey })).toEqual([false, false]);
  });

  // Other encodings of points of small order: y + p, and the sign bit of x = 0. Each would satisfy the equation if decoded.
  const alternatives: readonly {
    readonly name: string;
    readonly right: bigint;
    readonly encodings: readonly bigint[];
  }[] = [
    { name: 'y = 1', right: 1n, encodings: [1n + P, 1n + 2n ** 255n, 1n + P + 2n ** 255n] },
    { name: 'y = -1', right: P - 1n, encodings: [P - 1n + 2n ** 255n] },
    { name: 'y = 0', right: 0n, encodings: [P] },
    { name: 'y = 0, odd x', right: 2n ** 255n, encodings: [P + 2n ** 255n] },
  ];
  for (const { name, right, encodings } of alternatives) {
    it(`refuses non-canonical encodings of ${name} as A and as R, and as a key`, () => {
      const point = Point.fromBytes(toBytes(right), false);
      for (const encoding of encodings) {
        const bytes = toBytes(encoding);
        for (let tries = 0; tries < 64; tries++) {
          const text = u32le(tries);
          // As A: R = -kA for this very encoding, so that the equation holds for decoders that reduce y.
          const neutral = Point.ZERO.toBytes();
          expect(verdicts({ signature: concatBytes(neutral, toBytes(0n)), message: text, publicKey: bytes })).toEqual([
            false,
            false,
          ]);
          // As R, under a key of small order that could cancel it.
          const key = point.negate().toBytes();
          expect(verdicts({ signature: concatBytes(bytes, toBytes(0n)), message: text, publicKey: key })).toEqual([
            false,
            false,
          ]);
        }
        for (const crypto of PROVIDERS) expect(crypto.ed25519IsPrimeOrder(bytes)).toBe(false);
      }
    });
  }

  it('judges encodings before any provider sees them', () => {
    expect(isAcceptedSignature(signature, publicKey)).toBe(true);
    for (const { encodings } of alternatives) {
      for (const encoding of encodings) {
        expect(isAcceptedSignature(signature, toBytes(encoding))).toBe(false);
        const isReduced = (encoding & (2n ** 255n - 1n)) < P;
        const withR = concatBytes(toBytes(encoding), signature.subarray(32));
        // x = 0 with the sign bit is left to the equation, whose left side never has that form.
        expect(isAcceptedSignature(withR, publicKey)).toBe(isReduced);
      }
    }
  });

  it('refuses a key that is no point', () => {
    const noPoint = fromHex('0200000000000000000000000000000000000000000000000000000000000000');
    expect(() => Point.fromBytes(noPoint)).toThrow();
    expect(verdicts({ signature, message, publicKey: noPoint })).toEqual([false, false]);
  });
});
