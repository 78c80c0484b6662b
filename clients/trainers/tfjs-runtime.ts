import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import { registerWasmKernels } from './tfjs-kernels.ts';
import { explainNativeFailure, removedUtilFunctions } from './tfjs-native.ts';

/** The functions of `@tensorflow/tfjs-core`, whichever engine computes. */
export type TensorLibrary = typeof Core;

/** Engines in the order in which they are tried: native TensorFlow, WebAssembly with SIMD, plain JavaScript. */
export const TENSOR_ENGINES = ['tfjs-node', 'tfjs-wasm', 'tfjs-cpu'] as const;
export type TensorEngine = (typeof TENSOR_ENGINES)[number];

/** A tensor engine that has computed a known gradient correctly. */
export interface TensorRuntime {
  readonly runtime: TensorEngine;
  /** One line for the log: why this engine and none before it. */
  readonly why: string;
  readonly tf: TensorLibrary;
}

/** Settings of the loader; tests inject their own importer. */
export interface RuntimeOptions {
  /** Engines to try, in order. */
  readonly candidates?: readonly TensorEngine[];
  /** Imports the native package. */
  readonly importNative?: (specifier: string) => Promise<unknown>;
  /** The object that `require('util')` yields; receives functions that newer Node versions removed. */
  readonly util?: Record<string, unknown>;
  /** Most bytes that the WebAssembly heap may hold before allocations are refused. */
  readonly maxHeapBytes?: number;
}

/** Pointers into the upper half of the 4 GB heap are negative in some kernels, which then compute garbage silently. */
const MAX_HEAP_BYTES = 2 ** 31;
/** A variable, so that the compiler does not look for the optional package and its types. */
const NATIVE_PACKAGE: string = '@tensorflow/tfjs-node';
/** Name of each engine in the tensor library. */
export const BACKENDS: Readonly<Record<TensorEngine, string>> = {
  'tfjs-node': 'tensorflow',
  'tfjs-wasm': 'wasm',
  'tfjs-cpu': 'cpu',
};

/**
 * Computes d/dx sum(relu(x w) ^ 2) of a small product and compares it with the value worked out by hand.
 * A library that loads but cannot compute (wrong instruction set, half an installation) is caught here.
 */
function checkGradient(tf: TensorLibrary): void {
  const gradient = tf.tidy(() => {
    const w = tf.tensor2d([1, -1, 2, 1], [2, 2]);
    return tf
      .grad((x) => tf.sum(tf.square(tf.relu(tf.matMul(x as Core.Tensor2D, w)))))(tf.tensor2d([1, 2], [1, 2]))
      .dataSync();
  });
  // x w = [5, 1]; 2 (5 [1, 2] + 1 [-1, 1]) = [8, 22].
  if (gradient.length !== 2 || gradient[0] !== 8 || gradient[1] !== 22) {
    throw new Error(`computed a wrong gradient (${Array.from(gradient).join(', ')})`);
  }
}

/** Runs `load` without keeping the process-wide error handlers that the WebAssembly loader installs. */
async function withoutNewHandlers<T>(load: () => Promise<T>): Promise<T> {
  const before = {
    uncaughtException: new Set<unknown>(process.listeners('uncaughtException')),
    unhandledRejection: new Set<unknown>(process.listeners('unhandledRejection')),
  };
  try {
    return await load();
  } finally {
    for (const listener of process.listeners('uncaughtException')) {
      if (!before.uncaughtException.has(listener)) process.off('uncaughtException', listener);
    }
    for (const listener of process.listeners('unhandledRejection')) {
      if (!before.unhandledRejection.has(listener)) process.off('unhandledRejection', listener);
    }
  }
}

async function loadNative(options: RuntimeOptions): Promise<void> {
  const util = options.util ?? (createRequire(import.meta.url)('node:util') as Record<string, unknown>);
  const importNative = options.importNative ?? ((specifier: string) => import(specifier));
  const undo = removedUtilFunctions(util);
  try {
    await importNative(NATIVE_PACKAGE);
  } catch (error) {
    undo();
    throw error;
  }
}

async function loadWasm(): Promise<void> {
  const wasm = await import('@tensorflow/tfjs-backend-wasm');
  // A folder on disk: the binary is read, never fetched.
  wasm.setWasmPaths(dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm')) + sep);
}

async function activate(tf: TensorLibrary, engine: TensorEngine, options: RuntimeOptions): Promise<void> {
  if (engine === 'tfjs-node') await loadNative(options);
  else if (engine === 'tfjs-wasm') await loadWasm();
  else await import('@tensorflow/tfjs-backend-cpu');
  const chosen = await withoutNewHandlers(() => tf.setBackend(BACKENDS[engine]));
  if (!chosen) throw new Error(`the ${BACKENDS[engine]} backend does not start`);
  if (engine === 'tfjs-wasm') registerWasmKernels(tf, options.maxHeapBytes ?? MAX_HEAP_BYTES);
  checkGradient(tf);
}

/**
 * Loads the first tensor engine that works: native, WebAssembly, plain JavaScript. Loads nothing before it is called.
 * Not guaranteed: equal bits on different engines, nor that a native library built for another processor is survived.
 * @throws CoveyError DEP_TFJS_NATIVE if none of the candidates works; the message names each reason.
 */
export async function loadTensorRuntime(options: RuntimeOptions = {}): Promise<TensorRuntime> {
  const tf = await import('@tensorflow/tfjs-core');
  // The core alone knows no gradients: in version 4 the layers package registers them.
  await import('@tensorflow/tfjs-layers');
  const reasons: string[] = [];
  const quiet = tf.env().getBool('PROD');
  // The plain backend greets with an advertisement for the native one.
  tf.env().set('PROD', true);
  try {
    for (const runtime of options.candidates ?? TENSOR_ENGINES) {
      try {
        await activate(tf, runtime, options);
        return { runtime, why: [`training on ${runtime}`, ...reasons].join('; '), tf };
      } catch (error) {
        reasons.push(
          `${runtime} ${runtime === 'tfjs-node' ? explainNativeFailure(error) : `fails: ${firstLine(error)}`}`,
        );
      }
    }
  } finally {
    tf.env().set('PROD', quiet);
  }
  throw new CoveyError('DEP_TFJS_NATIVE', `no tensor engine works: ${reasons.join('; ')}`);
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n', 1)[0] ?? '';
}
