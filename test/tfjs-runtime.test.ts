import { createRequire } from 'node:module';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { explainNativeFailure, removedUtilFunctions } from '../clients/trainers/tfjs-native.ts';
import { loadTensorRuntime, type TensorLibrary } from '../clients/trainers/tfjs-runtime.ts';
import { isCoveyError } from '../protocol/errors.ts';

let tf: TensorLibrary;

beforeAll(async () => {
  ({ tf } = await loadTensorRuntime({ candidates: ['tfjs-cpu'] }));
});

afterEach(() => {
  for (const { kernelName } of tf.getKernelsForBackend('tensorflow')) tf.unregisterKernel(kernelName, 'tensorflow');
  if (tf.findBackend('tensorflow') !== null) tf.removeBackend('tensorflow');
});

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

const omitted = coded('ERR_MODULE_NOT_FOUND', "Cannot find package '@tensorflow/tfjs-node' imported from a.js");
const blocked = new Error(
  'The Node.js native addon module (tfjs_binding.node) can not be found at path: a/napi-v8/tfjs_binding.node.\nPlease run the following command',
);
const unopened = coded(
  'ERR_DLOPEN_FAILED',
  'libtensorflow.so.2: cannot open shared object file: No such file or directory',
);

/** Stands in for the native package: a backend under its name that computes with the plain kernels. */
async function registerNative(damage: boolean): Promise<void> {
  const Backend = (tf.findBackend('cpu') as object).constructor as new () => ReturnType<typeof tf.backend>;
  tf.registerBackend('tensorflow', () => new Backend());
  tf.copyRegisteredKernels('cpu', 'tensorflow');
  if (!damage) return;
  tf.unregisterKernel('Relu', 'tensorflow');
  tf.registerKernel({ ...tf.getKernel('Neg', 'cpu'), kernelName: 'Relu', backendName: 'tensorflow' });
}

describe('loading a tensor engine', () => {
  it('loads WebAssembly from disk, without network and without handlers for the errors of the process', async () => {
    const handlers = (): number =>
      process.listenerCount('uncaughtException') + process.listenerCount('unhandledRejection');
    expect(tf.findBackend('wasm')).toBe(null);
    const before = handlers();
    const fetchBefore = globalThis.fetch;
    globalThis.fetch = () => Promise.reject(new Error('no network'));
    try {
      const { runtime, why } = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
      expect({ runtime, why }).toEqual({ runtime: 'tfjs-wasm', why: 'training on tfjs-wasm' });
    } finally {
      globalThis.fetch = fetchBefore;
    }
    expect(handlers()).toBe(before);
  });

  for (const [name, error, reason] of [
    ['omitted', omitted, 'tfjs-node is not installed (optional)'],
    [
      'without its binary',
      blocked,
      'tfjs-node has no binary, because its install script was blocked or could not download it (npm rebuild @tensorflow/tfjs-node)',
    ],
    [
      'with a binary that cannot be opened',
      unopened,
      'tfjs-node has a binary that this system cannot open: libtensorflow.so.2: cannot open shared object file: No such file or directory',
    ],
  ] as const) {
    it(`falls back to WebAssembly when the native package is ${name}`, async () => {
      const util: Record<string, unknown> = {};
      const asked: string[] = [];
      const importNative = (specifier: string): Promise<unknown> => {
        asked.push(specifier);
        return Promise.reject(error);
      };
      const { runtime, why } = await loadTensorRuntime({ importNative, util });
      expect(runtime).toBe('tfjs-wasm');
      expect(tf.getBackend()).toBe('wasm');
      expect(why).toBe(`training on tfjs-wasm; ${reason}`);
      expect(asked).toEqual(['@tensorflow/tfjs-node']);
      // Nothing is left behind in a module that others use.
      expect(util).toEqual({});
    });
  }

  it('uses the native package when it works, with the functions it needs from util', async () => {
    const util: Record<string, unknown> = {};
    const importNative = async (): Promise<unknown> => {
      expect(util['isNullOrUndefined']).toBeTypeOf('function');
      return registerNative(false);
    };
    const { runtime, why } = await loadTensorRuntime({ importNative, util });
    expect(runtime).toBe('tfjs-node');
    expect(why).toBe('training on tfjs-node');
    expect(tf.getBackend()).toBe('tensorflow');
    expect((util['isNullOrUndefined'] as (value: unknown) => boolean)(undefined)).toBe(true);
  });

  it('does not trust a native package that loads and computes wrong gradients', async () => {
    const { runtime, why } = await loadTensorRuntime({ importNative: () => registerNative(true), util: {} });
    expect(runtime).toBe('tfjs-wasm');
    expect(why).toMatch(/^training on tfjs-wasm; tfjs-node fails: computed a wrong gradient \(/);
  });

  it('does not trust a native package that loads and registers nothing', async () => {
    const { runtime, why } = await loadTensorRuntime({ importNative: async () => ({}), util: {} });
    expect(runtime).toBe('tfjs-wasm');
    expect(why.split('\n').length).toBe(1);
  });

  it('names every reason when no engine works', async () => {
    const failure = await loadTensorRuntime({
      candidates: ['tfjs-node'],
      importNative: () => Promise.reject(omitted),
      util: {},
    }).catch((error: unknown) => error);
    expect(isCoveyError(failure, 'DEP_TFJS_NATIVE')).toBe(true);
    expect((failure as Error).message).toBe('no tensor engine works: tfjs-node is not installed (optional)');
  });
});

describe('the native package', () => {
  it('gets the functions that Node 23 removed, with the meaning they had', () => {
    const old = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
    const added: Record<string, (value: unknown) => boolean> = {};
    removedUtilFunctions(added);
    const values = [
      null,
      undefined,
      0,
      '',
      Symbol.iterator,
      true,
      [],
      {},
      /a/,
      new Date(0),
      new Error('a'),
      Buffer.of(),
      () => 0,
      Number.NaN,
    ];
    expect(Object.keys(added).length).toBe(15);
    for (const [name, added1] of Object.entries(added)) {
      const original = old[name];
      // Where Node still has them, they are the reference.
      if (typeof original === 'function')
        expect(values.map(added1)).toEqual(values.map((value) => Boolean(original(value))));
      expect(new Set(values.map(added1)).size).toBe(2);
    }
  });

  it('keeps functions that exist and takes out only what it added', () => {
    const own = (): boolean => true;
    const util: Record<string, unknown> = { isString: own, format: own };
    const undo = removedUtilFunctions(util);
    expect(util['isString']).toBe(own);
    expect(util['isArray']).toBeTypeOf('function');
    undo();
    expect(util).toEqual({ isString: own, format: own });
  });

  it('fails in words that say what to do', () => {
    expect(
      explainNativeFailure(
        coded('MODULE_NOT_FOUND', "Cannot find module '@mapbox/node-pre-gyp'\nRequire stack: @tensorflow/tfjs-node"),
      ),
    ).toBe("is installed without a package it needs: Cannot find module '@mapbox/node-pre-gyp'");
    expect(explainNativeFailure(new Error('The module was compiled against NODE_MODULE_VERSION 93'))).toMatch(
      /^has a binary that this system cannot open/,
    );
    expect(explainNativeFailure(new Error('a\nb'))).toBe('fails: a');
    expect(explainNativeFailure(undefined)).toBe('fails: undefined');
  });
});
