import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { type HadamardKernel, loadHadamardKernel } from '../protocol/kernels/hadamard.ts';
import { transformPlain } from '../protocol/kernels/hadamard-plain.ts';
import { HADAMARD_WASM, HADAMARD_WASM_SHA256 } from '../protocol/kernels/hadamard-wasm.ts';
import { type Block, createEncoder, type TermPart } from '../src/privacy/encode.ts';
import {
  plainWorkspace,
  type RotationWorkspace,
  rotationError,
  rotationWorkspace,
  transformWalshHadamard,
} from '../src/privacy/hadamard.ts';

const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const bytesOf = (x: Float32Array): Uint8Array => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

/** Floats with all mantissa bits in use, from integer arithmetic only; sizes over `decades` powers of ten. */
function floats(length: number, salt: number, decades = 0): Float32Array {
  let state = 88_172_645 + salt;
  return Float32Array.from({ length }, (_, i) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return ((state / 2 ** 31 - 1) / 3) * 10 ** -(decades === 0 ? 0 : i % decades);
  });
}

/** The definition: one stage after the other, each sum rounded to a float. */
function byStages(x: Float32Array): void {
  for (let half = 1; half < x.length; half *= 2) {
    for (let i = 0; i < x.length; i++) {
      if ((i & half) !== 0) continue;
      const a = x[i] as number;
      const b = x[i + half] as number;
      x[i] = Math.fround(a + b);
      x[i + half] = Math.fround(a - b);
    }
  }
}

const kernel = loadHadamardKernel() as HadamardKernel;

describe('the Walsh-Hadamard kernel on floats', () => {
  it('is here, and is the bytes that its hash names', () => {
    expect(kernel).not.toBeNull();
    expect(hashOf(Buffer.from(HADAMARD_WASM, 'base64'))).toBe(HADAMARD_WASM_SHA256);
  });

  it('gives the bits of its plain twin and of the definition, at every length, size and place', () => {
    for (let length = kernel.minLength; length <= 2 ** 17; length *= 2) {
      for (const decades of [0, 7, 44]) {
        const start = floats(length, length, decades);
        // Both zeros, the ends of the range that stays finite and the subnormals.
        start.set([0, -0, 1e-45, -1e-45, 1.2e-38], 3);
        const [plain, expected] = [start.slice(), start.slice()];
        transformPlain(plain);
        byStages(expected);
        expect(hashOf(bytesOf(plain))).toBe(hashOf(bytesOf(expected)));
        for (const from of [0, 40]) {
          const memory = kernel.reserve(from + length) as Float32Array;
          memory.fill(7, 0, from);
          memory.set(start, from);
          kernel.transform(from, length);
          expect(hashOf(bytesOf(memory.subarray(from)))).toBe(hashOf(bytesOf(expected)));
          expect(memory.subarray(0, from).every((value) => value === 7)).toBe(true);
        }
      }
    }
  });

  it('has frozen bits', () => {
    const x = floats(4_096, 1);
    transformPlain(x);
    expect(hashOf(bytesOf(x))).toBe('73ca702756d0f5a14d357259f11bf5bb827fdbecc9a1252b65b4f19059c58c12');
  });

  it('agrees with the transform of doubles', () => {
    const x = floats(2 ** 12, 2);
    const y = Float64Array.from(x);
    transformPlain(x);
    transformWalshHadamard(y);
    for (let i = 0; i < x.length; i++) expect(Math.abs((x[i] as number) - (y[i] as number))).toBeLessThan(1e-4);
  });

  it('works in plain loops where the memory cannot grow, and below its shortest length', () => {
    expect(kernel.reserve(2 ** 28 + 1)).toBeNull();
    for (const length of [1, 2, 4, 8, 16]) {
      const expected = floats(length, length);
      const workspace = rotationWorkspace(length);
      workspace.values.set(expected);
      workspace.transform(0, length);
      byStages(expected);
      expect(workspace.values).toEqual(expected);
    }
  });
});

const SEED = new Uint8Array(32).fill(6);
const norm = (x: Iterable<number>): number => {
  let squares = 0;
  for (const value of x) squares += value * value;
  return Math.sqrt(squares);
};

/** The plain workspace with an error put into every transform. */
const erring =
  (relative: number) =>
  (length: number): RotationWorkspace => {
    const workspace = plainWorkspace(length);
    return {
      values: workspace.values,
      transform(from, size) {
        workspace.transform(from, size);
        for (let i = from; i < from + size; i++) workspace.values[i] = (workspace.values[i] as number) * (1 + relative);
      },
    };
  };

describe('rounding of floats and the norm', () => {
  it('moves the norm by less than its stated bound, and does move it', () => {
    let furthest = 0;
    for (const length of [32, 1_024, 2 ** 15]) {
      for (let salt = 0; salt < 30; salt++) {
        const x = floats(length, salt, salt % 3 === 0 ? 9 : 0);
        // A spike, a run of equal values, and a sum that nearly cancels.
        if (salt % 5 === 1) x.fill(1 / 3, 1);
        if (salt % 5 === 2) x[salt] = 1e4 / 3;
        if (salt % 5 === 3) for (let i = 0; i < length; i += 2) x[i + 1] = -(x[i] as number);
        const before = norm(x) * Math.sqrt(length);
        transformPlain(x);
        const moved = Math.abs(norm(x) / before - 1);
        expect(moved).toBeLessThan(rotationError(length));
        furthest = Math.max(furthest, moved);
      }
    }
    expect(furthest).toBeGreaterThan(1e-12);
  });

  const LENGTH = 512;
  const BLOCKS: readonly Block[] = [
    { segment: 'body', realLength: 500, length: LENGTH, rotated: true },
    { segment: 'head/0', realLength: 20, length: 32, rotated: true },
    { segment: 'tiny', realLength: 3, length: 4, rotated: true },
    { segment: 'count', realLength: 2, length: 2, rotated: false },
  ];
  const COORDINATES = BLOCKS.reduce((total, block) => total + block.length, 0);
  const make = (scale: number, workspaceOf?: (length: number) => RotationWorkspace) =>
    createEncoder(nodeCrypto, { blocks: BLOCKS, clippingNorm: 1, scale, rotationSeed: SEED }, workspaceOf);
  const segments = (salt: number): Float64Array[] =>
    BLOCKS.map((block, i) => Float64Array.from(floats(block.realLength, salt + i)));
  const term = (salt: number): TermPart[] => segments(salt).map((values, block) => ({ block, values }));
  const encoded = (scale: number, salt: number, workspaceOf?: (length: number) => RotationWorkspace): Int32Array => {
    const sum = new Int32Array(COORDINATES);
    make(scale, workspaceOf).addRecord(sum, term(salt));
    return sum;
  };
  const squared = (x: Int32Array): bigint => x.reduce((sum, v) => sum + BigInt(v) * BigInt(v), 0n);
  const stream = () => nodeCrypto.aes256Ctr(new Uint8Array(32).fill(3));

  it('encodes to the same integers with the kernel and with plain loops', () => {
    for (const scale of [100, 65_536, 2 ** 26]) {
      for (let salt = 0; salt < 10; salt++) {
        expect(encoded(scale, salt)).toEqual(encoded(scale, salt, plainWorkspace));
        expect(make(scale).encodeContribution(segments(salt), stream())).toEqual(
          make(scale, plainWorkspace).encodeContribution(segments(salt), stream()),
        );
      }
    }
  });

  it('never leads a record over its bound: shrunk within the stated error, zero beyond it', () => {
    const scale = 2 ** 26;
    const bound = BigInt(make(scale).sensitivity) ** 2n;
    for (let salt = 0; salt < 10; salt++) {
      const worst = encoded(scale, salt, erring(0.9 * rotationError(LENGTH)));
      expect(squared(worst) <= bound).toBe(true);
      expect(Math.sqrt(Number(squared(worst))) / scale).toBeGreaterThan(1 - 2 * rotationError(LENGTH));
      expect(encoded(scale, salt, erring(4 * rotationError(LENGTH))).every((v) => v === 0)).toBe(true);
    }
  });

  it('is in the clip of a whole contribution, which therefore is never rejected for it', () => {
    const scale = 2 ** 26;
    for (const relative of [0, 0.9 * rotationError(LENGTH), 1e-3]) {
      const encoder = make(scale, erring(relative));
      const values = encoder.encodeContribution(segments(4), stream());
      expect(squared(values) <= BigInt(encoder.contribution.squaredNorm)).toBe(true);
      expect(Math.sqrt(Number(squared(values))) / scale).toBeGreaterThan(1 - 1e-6);
    }
  });

  it('leaves no value in the memory of the kernel', () => {
    kernel.reserve(COORDINATES)?.fill(0);
    for (const encode of [() => encoded(65_536, 1), () => make(65_536).encodeContribution(segments(1), stream())]) {
      encode();
      expect(kernel.reserve(COORDINATES)?.every((value) => value === 0)).toBe(true);
    }
  });
});
