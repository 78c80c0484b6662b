import { instantiateKernels, type KernelModule } from './instantiate.ts';
import type { ShareArithmetic } from './shamir-plain.ts';
import { SHAMIR_WASM } from './shamir-wasm.ts';

/** Units: `coefficients`, `values`, `weights`, `rows`, `sum`, `tables` are addresses; the others are counts. */
interface ShareFunctions {
  split16(at: number, rows: number): void;
  join16(at: number, rows: number): void;
  evaluate8(coefficients: number, rows: number, x: number, values: number, count: number): void;
  evaluate16(coefficients: number, rows: number, x: number, values: number, count: number, tables: number): void;
  combine8(weights: number, rows: number, count: number, sum: number): void;
  combine16(weights: number, rows: number, count: number, sum: number, tables: number): void;
}

const ROW_BYTES = 32;
/** Rows of coefficients or shares, and values, that the memory holds; more go through it in pieces. */
const ROWS = 1_024;
const ROWS_AT = 0;
const VALUES_AT = ROWS * ROW_BYTES;
const WEIGHTS_AT = 2 * ROWS * ROW_BYTES;
const TABLES_AT = WEIGHTS_AT + 2 * ROWS;
const SUM_AT = TABLES_AT + 128;

function sharesOver({ functions, memory }: KernelModule<ShareFunctions>): ShareArithmetic {
  const rows = new Uint8Array(memory, ROWS_AT, ROWS * ROW_BYTES);
  const values = new Uint8Array(memory, VALUES_AT, ROWS * ROW_BYTES);
  const sum = new Uint8Array(memory, SUM_AT, ROW_BYTES);
  const weightWords = new Uint16Array(memory, WEIGHTS_AT, ROWS);

  return {
    evaluate(bits, secret, drawn, holders) {
      const { length } = secret;
      const shares = Array.from({ length: holders }, () => new Uint8Array(length));
      const total = 1 + (length === 0 ? 0 : drawn.length / length);
      for (let from = 0; from < length; from += ROW_BYTES) {
        const to = Math.min(from + ROW_BYTES, length);
        for (let first = 0; first < holders; first += ROWS) {
          const count = Math.min(ROWS, holders - first);
          values.fill(0, 0, count * ROW_BYTES);
          // Horner's rule begins at the highest power; row 0 is the secret, row k the coefficient of x^k.
          for (let end = total; end > 0; end -= ROWS) {
            const begin = Math.max(0, end - ROWS);
            rows.fill(0, 0, (end - begin) * ROW_BYTES);
            for (let k = begin; k < end; k++) {
              const row = k === 0 ? secret : drawn;
              const at = k === 0 ? 0 : (k - 1) * length;
              rows.set(row.subarray(at + from, at + to), (k - begin) * ROW_BYTES);
            }
            if (bits === 8) functions.evaluate8(ROWS_AT, end - begin, first + 1, VALUES_AT, count);
            else {
              functions.split16(ROWS_AT, end - begin);
              functions.evaluate16(ROWS_AT, end - begin, first + 1, VALUES_AT, count, TABLES_AT);
            }
          }
          if (bits === 16) functions.join16(VALUES_AT, count);
          for (let i = 0; i < count; i++) {
            const at = i * ROW_BYTES;
            (shares[first + i] as Uint8Array).set(values.subarray(at, at + to - from), from);
          }
        }
      }
      rows.fill(0, 0, Math.min(total, ROWS) * ROW_BYTES);
      values.fill(0, 0, Math.min(holders, ROWS) * ROW_BYTES);
      return shares;
    },
    combine(bits, weights, shares) {
      const { length } = shares[0] as Uint8Array;
      const secret = new Uint8Array(length);
      for (let from = 0; from < length; from += ROW_BYTES) {
        const to = Math.min(from + ROW_BYTES, length);
        sum.fill(0);
        for (let first = 0; first < shares.length; first += ROWS) {
          const count = Math.min(ROWS, shares.length - first);
          if (to - from < ROW_BYTES) rows.fill(0, 0, count * ROW_BYTES);
          for (let i = 0; i < count; i++) {
            const share = shares[first + i] as Uint8Array;
            rows.set(length === ROW_BYTES ? share : share.subarray(from, to), i * ROW_BYTES);
            weightWords[i] = weights[first + i] as number;
          }
          if (bits === 8) functions.combine8(WEIGHTS_AT, ROWS_AT, count, SUM_AT);
          else {
            functions.split16(ROWS_AT, count);
            functions.combine16(WEIGHTS_AT, ROWS_AT, count, SUM_AT, TABLES_AT);
          }
        }
        if (bits === 16) functions.join16(SUM_AT, 1);
        secret.set(sum.subarray(0, to - from), from);
      }
      rows.fill(0, 0, Math.min(shares.length, ROWS) * ROW_BYTES);
      sum.fill(0);
      return secret;
    },
  };
}

let kernels: (ShareArithmetic & { readonly memory: ArrayBuffer }) | null | undefined;

/** The kernels, compiled at the first call, wiped after each; null where the engine has no WebAssembly with SIMD. */
export function loadShareKernels(): (ShareArithmetic & { readonly memory: ArrayBuffer }) | null {
  if (kernels === undefined) {
    const module = instantiateKernels<ShareFunctions>(SHAMIR_WASM);
    kernels = module === null ? null : { ...sharesOver(module), memory: module.memory };
  }
  return kernels;
}
