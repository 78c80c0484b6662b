import type { Lanes } from '../session.ts';
import { instantiateKernels } from './instantiate.ts';
import { LANES_WASM } from './lanes-wasm.ts';

/** Bytes of the vector, and of each keystream, that are worked on at a time. */
export const KERNEL_CHUNK_BYTES = 131_072;
/** Keystreams that one sweep takes. */
export const KERNEL_STREAMS = 6;
/** One cache line more than a chunk: streams a power of two apart would all want the same few places of the cache. */
const STRIDE_BYTES = KERNEL_CHUNK_BYTES + 64;

/** Adds `k` streams to the accumulator, or takes them off. Units: offsets and lengths in bytes. */
type Sweep = (accumulator: number, base: number, stride: number, k: number, bytes: number) => void;

/** The SIMD kernels with their memory: one chunk of the vector, then the chunks of the streams. */
export interface LaneKernels {
  readonly accumulator: Uint8Array;
  readonly streams: readonly Uint8Array[];
  /** Units: `bytes` a multiple of 64; what lies behind the end of the data may be anything. */
  sweep(lanes: Lanes, sign: 1 | -1, k: number, bytes: number): void;
}

function instantiate(): LaneKernels | null {
  const module = instantiateKernels<Record<string, Sweep>>(LANES_WASM);
  if (module === null) return null;
  const { functions, memory } = module;
  const of = (sign: 1 | -1, bits: 16 | 21 | 32): Sweep => functions[`${sign === 1 ? 'add' : 'sub'}${bits}`] as Sweep;
  return {
    accumulator: new Uint8Array(memory, 0, KERNEL_CHUNK_BYTES),
    streams: Array.from(
      { length: KERNEL_STREAMS },
      (_, i) => new Uint8Array(memory, (1 + i) * STRIDE_BYTES, KERNEL_CHUNK_BYTES),
    ),
    sweep: (lanes, sign, k, bytes) =>
      of(sign, lanes === 2 ? 32 : lanes === 3 ? 21 : 16)(0, STRIDE_BYTES, STRIDE_BYTES, k, bytes),
  };
}

let kernels: LaneKernels | null | undefined;

/** The kernels, compiled at the first call; null where the engine has no WebAssembly with SIMD. */
export function loadLaneKernels(): LaneKernels | null {
  kernels ??= instantiate();
  return kernels;
}
