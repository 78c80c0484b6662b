import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';
import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import { depthwiseFilterGradient, depthwiseInputGradient, maxPoolGradient } from './pooling-loops.ts';

type TensorInfo = Core.TensorInfo;
type Inputs = Record<string, TensorInfo>;
type Attributes = Record<string, unknown>;
type Pads = Parameters<typeof Core.backend_util.computeConv2DInfo>[4];
type Pair = [number, number];
type Shape4 = [number, number, number, number];

/** A kernel of the wasm backend: tensors in the heap in, a tensor in the heap out. */
type Kernel = (backend: BackendWasm, inputs: Inputs, attributes: Attributes) => TensorInfo;

interface ConvolutionAttributes {
  readonly strides: number | Pair;
  readonly pad: Pads;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
  readonly dataFormat?: string;
  readonly dilations?: number | Pair;
  readonly filterShape?: Shape4;
  readonly inputShape?: Shape4;
  readonly filterSize?: number | Pair;
}

/** The allocator of the backend. Units: bytes; addresses come signed. */
interface Heap {
  _malloc(bytes: number): number;
  _free(address: number): void;
}

function input(inputs: Inputs, name: string): TensorInfo {
  const tensor = inputs[name];
  if (tensor === undefined) throw new CoveyError('INTERNAL_INVARIANT', `"${name}" expected a tensor, got nothing`);
  return tensor;
}

function refuseLayout(dataFormat: string | undefined): void {
  if (dataFormat !== undefined && dataFormat !== 'NHWC') {
    throw new CoveyError('USAGE_RANGE', `"dataFormat" expected NHWC on the wasm backend, got ${dataFormat}`);
  }
}

/** Runs kernels of the backend and frees what they made in between. */
class Scratch {
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

/**
 * Gradient of a convolution by its filter, as a convolution of the input by the output gradient: with channels as batch
 * and batch as channels, dF[i, j] = sum x[., i + s y, j + s x] dy[., y, x] is one, dilated by the stride s.
 */
function conv2DBackpropFilter(tf: typeof Core): Kernel {
  return (backend, inputs, attributes) => {
    const { strides, pad, dimRoundingMode, dataFormat, filterShape } = attributes as unknown as ConvolutionAttributes;
    refuseLayout(dataFormat);
    const x = input(inputs, 'x');
    const conv = tf.backend_util.computeConv2DInfo(
      x.shape as Shape4,
      filterShape as Shape4,
      strides,
      1,
      pad,
      dimRoundingMode,
    );
    const { filterHeight, filterWidth, outHeight, outWidth, strideHeight, strideWidth, inHeight, inWidth, padInfo } =
      conv;
    // The rows and columns that the forward pass touched, counted from its padding.
    const height = filterHeight + (outHeight - 1) * strideHeight;
    const width = filterWidth + (outWidth - 1) * strideWidth;
    const bottom = Math.max(0, height - inHeight - padInfo.top);
    const right = Math.max(0, width - inWidth - padInfo.left);
    const scratch = new Scratch(tf, backend);
    try {
      let source = x;
      if (padInfo.top + padInfo.left + bottom + right > 0) {
        const paddings = [
          [0, 0],
          [padInfo.top, bottom],
          [padInfo.left, right],
          [0, 0],
        ];
        source = scratch.run('PadV2', { x: source }, { paddings, constantValue: 0 });
      }
      if (source.shape[1] !== height || source.shape[2] !== width) {
        const size = [conv.batchSize, height, width, conv.inChannels];
        source = scratch.run('Slice', { x: source }, { begin: [0, 0, 0, 0], size });
      }
      const images = scratch.run('Transpose', { x: source }, { perm: [3, 1, 2, 0] });
      const filter = scratch.run('Transpose', { x: input(inputs, 'dy') }, { perm: [1, 2, 0, 3] });
      const attrs = { strides: [1, 1], pad: 'valid', dataFormat: 'NHWC', dilations: [strideHeight, strideWidth] };
      const gradient = scratch.run('Conv2D', { x: images, filter }, attrs);
      return scratch.result('Transpose', { x: gradient }, { perm: [1, 2, 0, 3] });
    } finally {
      scratch.release();
    }
  };
}

function depthwiseInfo(
  tf: typeof Core,
  inShape: Shape4,
  filterShape: Shape4,
  attributes: ConvolutionAttributes,
): Core.backend_util.Conv2DInfo {
  const { strides, pad, dimRoundingMode, dilations } = attributes;
  return tf.backend_util.computeConv2DInfo(inShape, filterShape, strides, dilations ?? 1, pad, dimRoundingMode, true);
}

function depthwiseBackpropFilter(tf: typeof Core): Kernel {
  return (backend, inputs, attributes) => {
    const attrs = attributes as unknown as ConvolutionAttributes;
    const x = input(inputs, 'x');
    const shape = attrs.filterShape as Shape4;
    // Memory first: it may move the heap, and views taken before would be empty.
    const out = backend.makeOutput(shape, 'float32');
    const [values, dy, gradient] = [x, input(inputs, 'dy'), out].map(
      (tensor) => backend.typedArrayFromHeap(tensor) as Float32Array,
    );
    depthwiseFilterGradient(depthwiseInfo(tf, x.shape as Shape4, shape, attrs), values!, dy!, gradient!);
    return out;
  };
}

function depthwiseBackpropInput(tf: typeof Core): Kernel {
  return (backend, inputs, attributes) => {
    const attrs = attributes as unknown as ConvolutionAttributes;
    const filter = input(inputs, 'filter');
    const shape = attrs.inputShape as Shape4;
    const out = backend.makeOutput(shape, 'float32');
    const [weights, dy, gradient] = [filter, input(inputs, 'dy'), out].map(
      (tensor) => backend.typedArrayFromHeap(tensor) as Float32Array,
    );
    depthwiseInputGradient(depthwiseInfo(tf, shape, filter.shape as Shape4, attrs), weights!, dy!, gradient!);
    return out;
  };
}

/** Replaces the kernel of the backend, which loses the gradient of windows that hold no positive value. */
function maxPoolGrad(tf: typeof Core): Kernel {
  return (backend, inputs, attributes) => {
    const { filterSize, strides, pad, dimRoundingMode } = attributes as unknown as ConvolutionAttributes;
    const x = input(inputs, 'input');
    const pool = tf.backend_util.computePool2DInfo(
      x.shape as Shape4,
      filterSize as Pair,
      strides,
      1,
      pad,
      dimRoundingMode,
    );
    const out = backend.makeOutput(x.shape, 'float32');
    const [values, dy, gradient] = [x, input(inputs, 'dy'), out].map(
      (tensor) => backend.typedArrayFromHeap(tensor) as Float32Array,
    );
    maxPoolGradient(pool, values!, dy!, gradient!);
    return out;
  };
}

/** Makes transposed products transpose first: the backend has a fast kernel only for products as they stand. */
function straightMatMul(tf: typeof Core, original: Core.KernelFunc): Kernel {
  return (backend, inputs, attributes) => {
    const scratch = new Scratch(tf, backend);
    const straighten = (tensor: TensorInfo, isTransposed: unknown): TensorInfo => {
      if (isTransposed !== true) return tensor;
      const rank = tensor.shape.length;
      const perm = tensor.shape.map((_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
      return scratch.run('Transpose', { x: tensor }, { perm });
    };
    try {
      const a = straighten(input(inputs, 'a'), attributes['transposeA']);
      const b = straighten(input(inputs, 'b'), attributes['transposeB']);
      const attrs = { ...attributes, transposeA: false, transposeB: false } as unknown as Core.NamedAttrMap;
      return original({ inputs: { ...inputs, a, b }, attrs, backend }) as TensorInfo;
    } finally {
      scratch.release();
    }
  };
}

/**
 * Refuses tensors that would end above `maxBytes` of the heap: without it, kernels that run out of heap, or whose
 * pointers become negative, return wrong numbers and no error.
 */
export function guardHeap(backend: BackendWasm, maxBytes: number): void {
  const heap = backend.wasm as unknown as Heap;
  const allocate = heap._malloc;
  heap._malloc = (bytes) => {
    const address = bytes > maxBytes ? 0 : allocate(bytes) >>> 0;
    if (bytes > 0 && (address === 0 || address + bytes > maxBytes)) {
      if (address !== 0) heap._free(address);
      throw new CoveyError(
        'USAGE_RANGE',
        `"tensors" expected at most ${maxBytes} bytes of heap; ${bytes} more do not fit`,
        { bytes, maxBytes },
      );
    }
    return address;
  };
}

const done = new WeakSet<object>();

/**
 * Completes the active wasm backend: kernels for gradients that it lacks, a correct gradient of max pooling, faster
 * transposed products and the guard of its heap. A second call on the same backend does nothing.
 */
export function registerWasmKernels(tf: typeof Core, maxHeapBytes: number): void {
  const backend = tf.backend() as BackendWasm;
  if (done.has(backend)) return;
  done.add(backend);
  const register = (kernelName: string, kernel: Kernel): void => {
    const original = tf.getKernel(kernelName, 'wasm');
    if (original !== undefined) tf.unregisterKernel(kernelName, 'wasm');
    tf.registerKernel({
      ...(original ?? {}),
      kernelName,
      backendName: 'wasm',
      kernelFunc: ({ inputs, attrs, backend: target }) =>
        kernel(target as BackendWasm, inputs as Inputs, (attrs ?? {}) as Attributes),
    });
  };
  guardHeap(backend, maxHeapBytes);
  register('Conv2DBackpropFilter', conv2DBackpropFilter(tf));
  register('DepthwiseConv2dNativeBackpropFilter', depthwiseBackpropFilter(tf));
  register('DepthwiseConv2dNativeBackpropInput', depthwiseBackpropInput(tf));
  register('MaxPoolGrad', maxPoolGrad(tf));
  for (const name of ['BatchMatMul', '_FusedMatMul'])
    register(name, straightMatMul(tf, tf.getKernel(name, 'wasm').kernelFunc));
}
