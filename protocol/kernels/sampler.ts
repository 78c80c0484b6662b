import { instantiateKernels } from './instantiate.ts';
import {
  type CellRun,
  type CellSpec,
  cellsPlain,
  type Inversion,
  padThresholds,
  scanPlain,
  searchPlain,
} from './sampler-plain.ts';
import { SAMPLER_WASM } from './sampler-wasm.ts';

/** Units: `words`, `table`, `target` are addresses, the others counts; returns the number of draws made. */
type Run = (words: number, table: number, count: number, target: number, draws: number) => number;

interface SamplerFunctions extends Record<Route, Run> {
  cells(
    words: number,
    table: number,
    size: number,
    limits: number,
    bits: number,
    target: number,
    draws: number,
  ): number;
}

/** Words, and draws, that the memory holds. */
export const SAMPLER_WORDS = 16_384;
const TARGET_AT = 4 * SAMPLER_WORDS;
const TABLE_AT = 2 * TARGET_AT;
/** Thresholds that the memory holds. */
const MAX_THRESHOLDS = 16_384;

/** How a table is read: every threshold for every draw, or halved as many times for every draw. */
export type Route = 'scan' | 'search';

/** The SIMD kernels with their memory. */
export interface SamplerKernels {
  /** Random words: who draws fills them, and wipes them when done. */
  readonly words: Uint32Array;
  /** Everything the memory holds, so that tests see what is left in it. */
  readonly memory: ArrayBuffer;
  /** As its plain twin; fast for words of the array above. Null if the table is too large. */
  inversion(route: Route, thresholds: Int32Array): Inversion | null;
  /** Draws in the making: `cells` is fast for them alone. Who uses it wipes it. */
  readonly draws: Int32Array;
  /** As its plain twin. Null if the table is too large. */
  cells(spec: CellSpec): CellRun | null;
}

function instantiate(): SamplerKernels | null {
  const module = instantiateKernels<SamplerFunctions>(SAMPLER_WASM);
  if (module === null) return null;
  const { functions, memory } = module;
  const words = new Uint32Array(memory, 0, SAMPLER_WORDS);
  const chunk = new Int32Array(memory, TARGET_AT, SAMPLER_WORDS);
  const table = new Int32Array(memory, TABLE_AT, MAX_THRESHOLDS);
  let loaded: Int32Array | null = null;
  return {
    words,
    memory,
    draws: chunk,
    cells(spec) {
      const padded = padThresholds(spec.thresholds);
      if (2 * padded.length > MAX_THRESHOLDS) return null;
      const plain = cellsPlain(spec);
      const limitsAt = TABLE_AT + 4 * padded.length;
      return (from, at, target, begin, end) => {
        if (from.buffer !== memory || target.buffer !== memory) return plain(from, at, target, begin, end);
        if (loaded !== padded) {
          table.set(padded);
          table.set(spec.limits, padded.length);
          loaded = padded;
        }
        const address = target.byteOffset + 4 * begin;
        const { offsetBits } = spec;
        const done = functions.cells(4 * at, TABLE_AT, padded.length, limitsAt, offsetBits, address, end - begin);
        return plain(from, at + 2 * done, target, begin + done, Math.min(end, begin + done + 4));
      };
    },
    inversion(route, thresholds) {
      const padded = route === 'search' ? padThresholds(thresholds) : padEven(thresholds);
      if (padded.length > MAX_THRESHOLDS) return null;
      const plain = (route === 'search' ? searchPlain : scanPlain)(thresholds);
      return {
        one: plain.one,
        run(from, at, target, begin, end) {
          const count = end - begin;
          if (count < 16 || from.buffer !== memory) return plain.run(from, at, target, begin, end);
          if (loaded !== padded) {
            table.set(padded);
            loaded = padded;
          }
          chunk.set(target.subarray(begin, end));
          const done = functions[route](4 * at, TABLE_AT, padded.length, TARGET_AT, count);
          target.set(chunk.subarray(0, done), begin);
          chunk.fill(0, 0, count);
          // What is left is a group in which a draw equals a threshold, or too few draws for a group.
          return done < count
            ? plain.run(from, at + done, target, begin + done, Math.min(end, begin + done + 16))
            : end;
        },
      };
    },
  };
}

function padEven(thresholds: Int32Array): Int32Array {
  const padded = new Int32Array(thresholds.length + (thresholds.length % 2)).fill(2 ** 31 - 1);
  padded.set(thresholds);
  return padded;
}

let kernels: SamplerKernels | null | undefined;

/** The kernels, compiled at the first call; null where the engine has no WebAssembly with SIMD. */
export function loadSamplerKernels(): SamplerKernels | null {
  kernels ??= instantiate();
  return kernels;
}
