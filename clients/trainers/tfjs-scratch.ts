import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';
import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';

export type TensorInfo = Core.TensorInfo;
export type Inputs = Record<string, TensorInfo>;
export type Attributes = Record<string, unknown>;
export type Pads = Parameters<typeof Core.backend_util.computeConv2DInfo>[4];
export type Pair = [number, number];
export type Shape4 = [number, number, number, number];

/** A kernel of the wasm backend: tensors in the heap in, a tensor in the heap out. */
export type Kernel = (backend: BackendWasm, inputs: Inputs, attributes: Attributes) => TensorInfo;

export interface ConvolutionAttributes {
  readonly strides: number | Pair;
  readonly pad: Pads;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
  readonly dataFormat?: string;
  readonly dilations?: number | Pair;
  readonly filterShape?: Shape4;
  readonly inputShape?: Shape4;
  readonly filterSize?: number | Pair;
}

export function input(inputs: Inputs, name: string): TensorInfo {
  const tensor = inputs[name];
  if (tensor === undefined) throw new CoveyError('INTERNAL_INVARIANT', `"${name}" expected a tensor, got nothing`);
  return tensor;
}

export function refuseLayout(dataFormat: string | undefined): void {
  if (dataFormat !== undefined && dataFormat !== 'NHWC') {
    throw new CoveyError('USAGE_RANGE', `"dataFormat" expected NHWC on the wasm backend, got ${dataFormat}`);
  }
}

/** Runs kernels of the backend and frees what they made in between. */
export class Scratch {
  readonly #tf: typeof Core;
  readonly #backend: BackendWasm;
  readonly #owned: TensorInfo[] = [];

  constructor(tf: typeof Core, backend: BackendWasm) {
    this.#tf = tf;
    this.#backend = backend;
  }

  /** Calls a kernel; the result is freed by `release`. */
  run(kernelName: string, inputs: Inputs, attributes: object): TensorInfo {
    const out = this.result(kernelName, inputs, attributes);
    this.#owned.push(out);
    return out;
  }

  /** Calls a kernel whose result the caller keeps. */
  result(kernelName: string, inputs: Inputs, attributes: object): TensorInfo {
    const kernel = this.#tf.getKernel(kernelName, 'wasm');
    return kernel.kernelFunc({ inputs, attrs: attributes as Core.NamedAttrMap, backend: this.#backend }) as TensorInfo;
  }

  release(): void {
    for (const { dataId } of this.#owned) this.#backend.disposeData(dataId);
  }
}
