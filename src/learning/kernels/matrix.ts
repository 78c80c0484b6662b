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
}

/** Multiplications below which copying into the kernel's memory costs more than it saves; bytes that memory may have. */
const MIN_WORK = 4_096;
const MAX_BYTES = 2 ** 30;

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

/** The product in the kernel's memory; false where there is no kernel, or no memory for it. */
export function productSimd({ m, n, k, a, aAt, ai, al, b, bAt, c, cAt }: MatrixProduct): boolean {
  if (kernel === undefined) kernel = instantiateKernels<MatrixFunctions>(MATRIX_WASM);
  const bFrom = m * k;
  const cFrom = bFrom + k * n;
  const floats = kernel === null ? null : reserve(kernel, cFrom + m * n);
  if (kernel === null || floats === null) return false;
  floats.set(a.subarray(aAt, aAt + m * k), 0);
  floats.set(b.subarray(bAt, bAt + k * n), bFrom);
  floats.set(c.subarray(cAt, cAt + m * n), cFrom);
  kernel.functions.product(m, n, k, 0, 8 * ai, 8 * al, 8 * bFrom, 8 * n, 8 * cFrom, 8 * n);
  c.set(floats.subarray(cFrom, cFrom + m * n), cAt);
  return true;
}

/** A product of matrices, with SIMD where the engine has it and the work is worth it; the same bits as the plain twin. */
export function product(task: MatrixProduct): void {
  if (task.m * task.n * task.k < MIN_WORK || !productSimd(task)) productPlain(task);
}
