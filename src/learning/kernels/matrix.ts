import { instantiateKernels, type KernelModule, PAGE_BYTES } from '../../../protocol/kernels/instantiate.ts';
import { type MatrixProduct, productPlain } from './matrix-plain.ts';
import { MATRIX_WASM } from './matrix-wasm.ts';

interface MatrixFunctions {
  /** Units of strides and addresses: bytes. */
  product(
    m: number,
    n: number,
    k: number,
    a: number,
    ai: number,
    al: number,
    b: number,
    bl: number,
    c: number,
    ci: number,
  ): void;
  productListed(
    m: number,
    n: number,
    k: number,
    a: number,
    ai: number,
    al: number,
    b: number,
    bl: number,
    c: number,
    ci: number,
    counts: number,
    entries: number,
  ): void;
  /** Lists what is not zero in each pair of rows; returns the number of entries. */
  list(m: number, k: number, a: number, ai: number, al: number, bl: number, counts: number, entries: number): number;
  /** Not 0 if `b` is finite and `c` has no negative zero. Units of lengths: doubles. */
  mayLeaveOut(b: number, bLength: number, c: number, cLength: number): number;
}

/** Multiplications below which copying into the kernel's memory costs more than it saves; bytes that memory may have. */
const MIN_WORK = 4_096;
const MAX_BYTES = 2 ** 30;
/** Columns from which it pays to look for zeros; share of entries, of one row and of a pair, up to which lists are faster. */
const MIN_COLUMNS = 16;
const MAX_SHARE = 0.4;
const MAX_PAIR_SHARE = 0.7;
/** Doubles of an entry of a list. */
const ENTRY = 3;
/** Prime, so that samples do not stay in one column. */
const SAMPLES = 61;

let kernel: KernelModule<MatrixFunctions> | null | undefined;
let memory = new Float64Array(0);

/** The first `length` doubles of the kernel's memory, which grows when it must; null if it cannot. */
function reserve(module: KernelModule<MatrixFunctions>, length: number): Float64Array | null {
  if (8 * length > MAX_BYTES) return null;
  const missing = 8 * length - module.memory.byteLength;
  if (missing > 0 && !module.grow(Math.ceil(missing / PAGE_BYTES))) return null;
  if (memory.buffer !== module.memory) memory = new Float64Array(module.memory);
  return memory;
}

/** True if a look at some of the values says that most are zero. */
function isMostlyZero(values: Float64Array, from: number, length: number): boolean {
  const stride = length / SAMPLES;
  let filled = 0;
  for (let i = 0; i < SAMPLES; i++) if (values[from + Math.floor(i * stride)] !== 0) filled += 1;
  return filled <= MAX_SHARE * SAMPLES;
}

/** The product in the kernel's memory; false where there is no kernel, or no memory for it. */
export function productSimd({ m, n, k, a, aAt, ai, al, b, bAt, c, cAt }: MatrixProduct): boolean {
  if (kernel === undefined) kernel = instantiateKernels<MatrixFunctions>(MATRIX_WASM);
  const bFrom = m * k;
  const cFrom = bFrom + k * n;
  const pairs = Math.ceil(m / 2);
  const countsFrom = cFrom + m * n;
  const entriesFrom = countsFrom + pairs;
  const isListed = n >= MIN_COLUMNS && isMostlyZero(a, aAt, m * k);
  const floats = kernel === null ? null : reserve(kernel, isListed ? entriesFrom + ENTRY * pairs * k : countsFrom);
  if (kernel === null || floats === null) return false;
  floats.set(a.subarray(aAt, aAt + m * k), 0);
  floats.set(b.subarray(bAt, bAt + k * n), bFrom);
  floats.set(c.subarray(cAt, cAt + m * n), cFrom);
  const { list, mayLeaveOut, product: multiply, productListed } = kernel.functions;
  const [counts, entries, bTo, cTo] = [8 * countsFrom, 8 * entriesFrom, 8 * bFrom, 8 * cFrom];
  if (
    isListed &&
    list(m, k, 0, 8 * ai, 8 * al, 8 * n, counts, entries) <= MAX_PAIR_SHARE * pairs * k &&
    mayLeaveOut(bTo, k * n, cTo, m * n) !== 0
  )
    productListed(m, n, k, 0, 8 * ai, 8 * al, bTo, 8 * n, cTo, 8 * n, counts, entries);
  else multiply(m, n, k, 0, 8 * ai, 8 * al, bTo, 8 * n, cTo, 8 * n);
  c.set(floats.subarray(cFrom, cFrom + m * n), cAt);
  return true;
}

/** A product of matrices, with SIMD where the engine has it and the work is worth it; the same bits as the plain twin. */
export function product(task: MatrixProduct): void {
  if (task.m * task.n * task.k < MIN_WORK || !productSimd(task)) productPlain(task);
}
