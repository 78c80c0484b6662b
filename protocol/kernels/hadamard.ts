import { HADAMARD_WASM } from './hadamard-wasm.ts';
import { instantiateKernels, type KernelModule, PAGE_BYTES } from './instantiate.ts';

interface HadamardFunctions {
  /** Units: bytes. */
  transform(at: number, bytes: number): void;
}

/** Shortest block that the kernel takes, and bytes that its memory may have: addresses stay below 2^31. */
const MIN_LENGTH = 32;
const MAX_BYTES = 2 ** 30;

/** The SIMD transform with its memory. */
export interface HadamardKernel {
  readonly minLength: number;
  /**
   * The first `length` floats of the memory, which grows when it must; null if it cannot. A view that was handed out before
   * may have lost its memory.
   */
  reserve(length: number): Float32Array | null;
  /** Units: floats from the start of the memory; `length` a power of two, at least `minLength`. */
  transform(from: number, length: number): void;
}

function hadamardOver(module: KernelModule<HadamardFunctions>): HadamardKernel {
  return {
    minLength: MIN_LENGTH,
    reserve(length) {
      const missing = 4 * length - module.memory.byteLength;
      if (4 * length > MAX_BYTES) return null;
      if (missing > 0 && !module.grow(Math.ceil(missing / PAGE_BYTES))) return null;
      return new Float32Array(module.memory, 0, length);
    },
    transform: (from, length) => module.functions.transform(4 * from, 4 * length),
  };
}

let kernel: HadamardKernel | null | undefined;

/** The kernel, compiled at the first call; null where the engine has no WebAssembly with SIMD. */
export function loadHadamardKernel(): HadamardKernel | null {
  if (kernel === undefined) {
    const module = instantiateKernels<HadamardFunctions>(HADAMARD_WASM);
    kernel = module === null ? null : hadamardOver(module);
  }
  return kernel;
}
