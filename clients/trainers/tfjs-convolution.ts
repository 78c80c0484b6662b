import type * as Core from '@tensorflow/tfjs-core';
import {
  type ConvolutionAttributes,
  input,
  type Kernel,
  refuseLayout,
  Scratch,
  type Shape4,
  type TensorInfo,
} from './tfjs-scratch.ts';

/**
 * Gradient of a convolution by its filter, as a convolution of the input by the output gradient: with channels as batch
 * and batch as channels, dF[i, j] = sum x[., i + s y, j + s x] dy[., y, x] is one, dilated by the stride s.
 */
export function conv2DBackpropFilter(tf: typeof Core): Kernel {
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

/** Puts `stride - 1` zeros behind every row and column: padding of the last axis of a view, once for each direction. */
function spread(scratch: Scratch, dy: TensorInfo, strideHeight: number, strideWidth: number): TensorInfo {
  const [batch, rows, columns, channels] = dy.shape as Shape4;
  const width = columns * strideWidth;
  const attributes = (zeros: number): object => ({
    paddings: [
      [0, 0],
      [0, 0],
      [0, zeros],
    ],
    constantValue: 0,
  });
  const byColumn = { ...dy, shape: [batch * rows, columns, channels] };
  const wide = scratch.run('PadV2', { x: byColumn }, attributes((strideWidth - 1) * channels));
  const byRow = { ...wide, shape: [batch, rows, width * channels] };
  const tall = scratch.run('PadV2', { x: byRow }, attributes((strideHeight - 1) * width * channels));
  return { ...tall, shape: [batch, rows * strideHeight, width, channels] };
}

/**
 * Gradient of a convolution by its input, as a convolution of the output gradient (zeros between its values where the
 * stride is above one) by the filter turned around: many times faster than the loops of the backend, which stay for
 * paddings wider than the filter.
 */
export function conv2DBackpropInput(tf: typeof Core, original: Core.KernelFunc): Kernel {
  return (backend, inputs, attributes) => {
    const { strides, pad, dimRoundingMode, dataFormat, inputShape } = attributes as unknown as ConvolutionAttributes;
    refuseLayout(dataFormat);
    const filter = input(inputs, 'filter');
    const conv = tf.backend_util.computeConv2DInfo(
      inputShape as Shape4,
      filter.shape as Shape4,
      strides,
      1,
      pad,
      dimRoundingMode,
    );
    const { batchSize, filterHeight, filterWidth, strideHeight, strideWidth, inHeight, inWidth, outChannels, padInfo } =
      conv;
    const top = filterHeight - 1 - padInfo.top;
    const left = filterWidth - 1 - padInfo.left;
    if (top < 0 || left < 0)
      return original({ inputs, attrs: attributes as unknown as Core.NamedAttrMap, backend }) as TensorInfo;
    const scratch = new Scratch(tf, backend);
    try {
      let source = input(inputs, 'dy');
      if (strideHeight > 1 || strideWidth > 1) source = spread(scratch, source, strideHeight, strideWidth);
      const height = inHeight + filterHeight - 1;
      const width = inWidth + filterWidth - 1;
      const bottom = Math.max(0, height - top - (source.shape[1] ?? 0));
      const right = Math.max(0, width - left - (source.shape[2] ?? 0));
      if (top + left + bottom + right > 0) {
        const paddings = [
          [0, 0],
          [top, bottom],
          [left, right],
          [0, 0],
        ];
        source = scratch.run('PadV2', { x: source }, { paddings, constantValue: 0 });
      }
      if (source.shape[1] !== height || source.shape[2] !== width) {
        const size = [batchSize, height, width, outChannels];
        source = scratch.run('Slice', { x: source }, { begin: [0, 0, 0, 0], size });
      }
      const turned = scratch.run('Reverse', { x: filter }, { dims: [0, 1] });
      const transposed = scratch.run('Transpose', { x: turned }, { perm: [0, 1, 3, 2] });
      const attrs = { strides: [1, 1], pad: 'valid', dataFormat: 'NHWC', dilations: [1, 1] };
      return scratch.result('Conv2D', { x: source, filter: transposed }, attrs);
    } finally {
      scratch.release();
    }
  };
}
