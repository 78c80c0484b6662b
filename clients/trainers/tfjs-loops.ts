import type { backend_util } from '@tensorflow/tfjs-core';

/**
 * Gradients of pooling and of depthwise convolutions as plain loops, one pass over the output gradient with the
 * channels innermost. Layout everywhere: batch, rows, columns, channels.
 */

/** Offsets of one window: first input row and column (may lie in the padding) and the output position. */
type Visit = (batch: number, top: number, left: number, at: number) => void;

function eachWindow(conv: backend_util.Conv2DInfo, visit: Visit): void {
  let at = 0;
  for (let batch = 0; batch < conv.batchSize; batch++) {
    for (let row = 0; row < conv.outHeight; row++) {
      for (let column = 0; column < conv.outWidth; column++, at += conv.outChannels) {
        visit(batch, row * conv.strideHeight - conv.padInfo.top, column * conv.strideWidth - conv.padInfo.left, at);
      }
    }
  }
}

/** Calls `visit` with the input position and the filter position of every tap of a window that is not padding. */
function eachTap(
  conv: backend_util.Conv2DInfo,
  batch: number,
  top: number,
  left: number,
  visit: (source: number, tap: number) => void,
): void {
  for (let i = 0; i < conv.filterHeight; i++) {
    const row = top + i * conv.dilationHeight;
    if (row < 0 || row >= conv.inHeight) continue;
    for (let j = 0; j < conv.filterWidth; j++) {
      const column = left + j * conv.dilationWidth;
      if (column < 0 || column >= conv.inWidth) continue;
      visit(
        ((batch * conv.inHeight + row) * conv.inWidth + column) * conv.inChannels,
        (i * conv.filterWidth + j) * conv.outChannels,
      );
    }
  }
}

/** gradient[i, j, c, m] = sum of x at the tap times dy[.., c m]; sums in double precision. */
export function depthwiseFilterGradient(
  conv: backend_util.Conv2DInfo,
  x: Float32Array,
  dy: Float32Array,
  gradient: Float32Array,
): void {
  const multiplier = conv.outChannels / conv.inChannels;
  const sums = new Float64Array(gradient.length);
  eachWindow(conv, (batch, top, left, at) => {
    eachTap(conv, batch, top, left, (source, tap) => {
      for (let c = 0, k = 0; c < conv.inChannels; c++) {
        const value = x[source + c] as number;
        for (let m = 0; m < multiplier; m++, k++)
          sums[tap + k] = (sums[tap + k] as number) + value * (dy[at + k] as number);
      }
    });
  });
  gradient.set(sums);
}

/** gradient at the tap += dy[.., c m] filter[i, j, c, m]. */
export function depthwiseInputGradient(
  conv: backend_util.Conv2DInfo,
  filter: Float32Array,
  dy: Float32Array,
  gradient: Float32Array,
): void {
  const multiplier = conv.outChannels / conv.inChannels;
  gradient.fill(0);
  eachWindow(conv, (batch, top, left, at) => {
    eachTap(conv, batch, top, left, (source, tap) => {
      for (let c = 0, k = 0; c < conv.inChannels; c++) {
        let sum = gradient[source + c] as number;
        for (let m = 0; m < multiplier; m++, k++) sum += (dy[at + k] as number) * (filter[tap + k] as number);
        gradient[source + c] = sum;
      }
    });
  });
}

/** Gives the gradient of each window to its largest value, the first one if several are equal. */
export function maxPoolGradient(
  pool: backend_util.Conv2DInfo,
  x: Float32Array,
  dy: Float32Array,
  gradient: Float32Array,
): void {
  const highest = new Float64Array(pool.inChannels);
  const position = new Int32Array(pool.inChannels);
  gradient.fill(0);
  eachWindow(pool, (batch, top, left, at) => {
    highest.fill(-Infinity);
    position.fill(-1);
    eachTap(pool, batch, top, left, (source) => {
      for (let c = 0; c < pool.inChannels; c++) {
        const value = x[source + c] as number;
        // The first value of a window is taken as it is, so that -Infinity and NaN have a place too.
        if (value > (highest[c] as number) || (position[c] as number) < 0) {
          highest[c] = value;
          position[c] = source + c;
        }
      }
    });
    for (let c = 0; c < pool.inChannels; c++) {
      const to = position[c] as number;
      if (to >= 0) gradient[to] = (gradient[to] as number) + (dy[at + c] as number);
    }
  });
}

/** sums[s] = sum of the rows of `values` whose segment is s, in double precision; segments outside are dropped. */
export function segmentSum(values: Float32Array, segments: ArrayLike<number>, width: number, sums: Float32Array): void {
  const rows = sums.length / width;
  const exact = new Float64Array(sums.length);
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i] as number;
    if (!(segment >= 0 && segment < rows)) continue;
    const from = i * width;
    const to = segment * width;
    for (let k = 0; k < width; k++) exact[to + k] = (exact[to + k] as number) + (values[from + k] as number);
  }
  sums.set(exact);
}
