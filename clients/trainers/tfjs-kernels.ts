import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';
import type * as Core from '@tensorflow/tfjs-core';
import { CoveyError } from '../../protocol/errors.ts';
import { conv2DBackpropFilter, conv2DBackpropInput } from './tfjs-convolution.ts';
import { depthwiseFilterGradient, depthwiseInputGradient, maxPoolGradient, segmentSum } from './tfjs-loops.ts';
import {
  type Attributes,
  type ConvolutionAttributes,
  type Inputs,
  input,
  type Kernel,
  type Pair,
  Scratch,
  type Shape4,
  type TensorInfo,
} from './tfjs-scratch.ts';

/** The allocator of the backend. Units: bytes; addresses come signed. */
interface Heap {
  _malloc(bytes: number): number;
  _free(address: number): void;
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

/** Gradient of looking up rows of a table, as embeddings do. */
function unsortedSegmentSum(): Kernel {
  return (backend, inputs, attributes) => {
    const x = input(inputs, 'x');
    const [, ...rest] = x.shape;
    const width = rest.reduce((product, size) => product * size, 1);
    const out = backend.makeOutput([attributes['numSegments'] as number, ...rest], 'float32');
    const [values, segments, sums] = [x, input(inputs, 'segmentIds'), out].map((tensor) =>
      backend.typedArrayFromHeap(tensor),
    );
    segmentSum(values as Float32Array, segments as Int32Array, width, sums as Float32Array);
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
 * input gradients and transposed products, and the guard of its heap. A second call on the same backend does nothing.
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
  register('Conv2DBackpropInput', conv2DBackpropInput(tf, tf.getKernel('Conv2DBackpropInput', 'wasm').kernelFunc));
  register('DepthwiseConv2dNativeBackpropFilter', depthwiseBackpropFilter(tf));
  register('DepthwiseConv2dNativeBackpropInput', depthwiseBackpropInput(tf));
  register('MaxPoolGrad', maxPoolGrad(tf));
  register('UnsortedSegmentSum', unsortedSegmentSum());
  for (const name of ['BatchMatMul', '_FusedMatMul'])
    register(name, straightMatMul(tf, tf.getKernel(name, 'wasm').kernelFunc));
}
