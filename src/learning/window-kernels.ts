import { type Padding, pair, type Size } from './layer-sizes.ts';

/**
 * Windows over an image, with zeros around it. Shapes: images rows x columns x channels, channels innermost; `height` x `width`
 * a window; `top`, `left` rows and columns of zeros before the image.
 */
export interface Windows {
  readonly rows: number;
  readonly columns: number;
  readonly channels: number;
  readonly outRows: number;
  readonly outColumns: number;
  readonly height: number;
  readonly width: number;
  readonly stride: readonly [number, number];
  readonly top: number;
  readonly left: number;
}

/** Places windows on an image as TensorFlow does: of an odd number of zeros the last one is behind the image. */
export function placeWindows(
  { size, stride, padding }: { readonly size: Size; readonly stride: Size; readonly padding: Padding },
  [rows = 0, columns = 0, channels = 0]: readonly number[],
  [outRows = 0, outColumns = 0]: readonly number[],
): Windows {
  const [height, width] = pair(size);
  const [down, right] = pair(stride);
  const before = (length: number, out: number, window: number, step: number): number =>
    padding === 'valid' ? 0 : Math.floor(Math.max(0, (out - 1) * step + window - length) / 2);
  const top = before(rows, outRows, height, down);
  const left = before(columns, outColumns, width, right);
  return { rows, columns, channels, outRows, outColumns, height, width, stride: [down, right], top, left };
}

/**
 * Calls `visit` for every row of a window that is within the image, window after window. Units: `from` is the offset of the
 * row's first value in the image, `tap` the place of it in the window (row by row), `length` the values in columns.
 */
function eachRun(w: Windows, visit: (window: number, from: number, tap: number, length: number) => void): void {
  let window = 0;
  for (let outRow = 0; outRow < w.outRows; outRow++)
    for (let outColumn = 0; outColumn < w.outColumns; outColumn++, window++) {
      const row = outRow * w.stride[0] - w.top;
      const column = outColumn * w.stride[1] - w.left;
      const start = Math.max(0, column);
      const length = Math.min(w.columns, column + w.width) - start;
      if (length <= 0) continue;
      const bottom = Math.min(w.rows, row + w.height);
      for (let r = Math.max(0, row); r < bottom; r++)
        visit(window, (r * w.columns + start) * w.channels, (r - row) * w.width + start - column, length);
    }
}

/** Values of a window. */
export const windowValues = ({ channels, height, width }: Windows): number => height * width * channels;

/**
 * Moves windows `first` to `end` - 1 between an image and the places where they lie one after the other; loops of its own, as
 * convolutions spend their time here. `isBack`: adds the windows to the image; copies from it otherwise.
 */
function moveWindows(
  w: Windows,
  image: Float64Array,
  at: number,
  first: number,
  end: number,
  patches: Float64Array,
  isBack: boolean,
): void {
  const { channels, columns, height, left, outColumns, rows, stride, top, width } = w;
  const size = height * width * channels;
  for (let index = first; index < end; index++) {
    const outRow = Math.floor(index / outColumns);
    const row = outRow * stride[0] - top;
    const bottom = Math.min(rows, row + height);
    const column = (index - outRow * outColumns) * stride[1] - left;
    const skipped = Math.max(0, -column);
    const length = (Math.min(columns - column, width) - skipped) * channels;
    for (let r = Math.max(0, row); r < bottom; r++) {
      const from = at + (r * columns + column + skipped) * channels;
      const to = (index - first) * size + ((r - row) * width + skipped) * channels;
      if (isBack)
        for (let i = 0; i < length; i++) image[from + i] = (image[from + i] as number) + (patches[to + i] as number);
      else for (let i = 0; i < length; i++) patches[to + i] = image[from + i] as number;
    }
  }
}

/** Writes windows `first` to `end` - 1 one after the other, zeros where they are outside of the image. */
export function unfold(
  w: Windows,
  image: Float64Array,
  at: number,
  first: number,
  end: number,
  patches: Float64Array,
): void {
  patches.fill(0, 0, (end - first) * windowValues(w));
  moveWindows(w, image, at, first, end, patches, false);
}

/** Adds windows back to the places that `unfold` read them from. */
export function fold(
  w: Windows,
  patches: Float64Array,
  first: number,
  end: number,
  image: Float64Array,
  at: number,
): void {
  moveWindows(w, image, at, first, end, patches, true);
}

/** Each channel c of the image times its own windows: y[p, c m] += sum over taps x[p + tap, c] w[tap, c, m]. */
export function depthwiseForward(
  w: Windows,
  multiplier: number,
  image: Float64Array,
  at: number,
  kernel: Float64Array,
  kernelAt: number,
  out: Float64Array,
  outAt: number,
): void {
  const outputs = w.channels * multiplier;
  eachRun(w, (window, from, tap, length) => {
    const to = outAt + window * outputs;
    for (let column = 0; column < length; column++)
      for (let c = 0, k = 0; c < w.channels; c++) {
        const value = image[at + from + column * w.channels + c] as number;
        const weights = kernelAt + (tap + column) * outputs;
        for (let m = 0; m < multiplier; m++, k++)
          out[to + k] = (out[to + k] as number) + value * (kernel[weights + k] as number);
      }
  });
}

/** Adds the gradient of `depthwiseForward` by its image. */
export function depthwiseBack(
  w: Windows,
  multiplier: number,
  errors: Float64Array,
  errorsAt: number,
  kernel: Float64Array,
  kernelAt: number,
  image: Float64Array,
  at: number,
): void {
  const outputs = w.channels * multiplier;
  eachRun(w, (window, from, tap, length) => {
    const source = errorsAt + window * outputs;
    for (let column = 0; column < length; column++)
      for (let c = 0, k = 0; c < w.channels; c++) {
        const to = at + from + column * w.channels + c;
        const weights = kernelAt + (tap + column) * outputs;
        let sum = image[to] as number;
        for (let m = 0; m < multiplier; m++, k++)
          sum += (errors[source + k] as number) * (kernel[weights + k] as number);
        image[to] = sum;
      }
  });
}

/** Adds the gradient of `depthwiseForward` by its kernel. */
export function depthwiseKernelGradient(
  w: Windows,
  multiplier: number,
  image: Float64Array,
  at: number,
  errors: Float64Array,
  errorsAt: number,
  gradient: Float64Array,
): void {
  const outputs = w.channels * multiplier;
  eachRun(w, (window, from, tap, length) => {
    const source = errorsAt + window * outputs;
    for (let column = 0; column < length; column++)
      for (let c = 0, k = 0; c < w.channels; c++) {
        const value = image[at + from + column * w.channels + c] as number;
        const to = (tap + column) * outputs;
        for (let m = 0; m < multiplier; m++, k++)
          gradient[to + k] = (gradient[to + k] as number) + value * (errors[source + k] as number);
      }
  });
}

/** Largest value of each window and channel, the first of equal ones; `places` takes where it is in the image, -1 if nowhere. */
export function maxPool(
  w: Windows,
  image: Float64Array,
  at: number,
  out: Float64Array,
  outAt: number,
  places: Int32Array,
): void {
  places.fill(-1, outAt, outAt + w.outRows * w.outColumns * w.channels);
  eachRun(w, (window, from, _tap, length) => {
    const to = outAt + window * w.channels;
    for (let column = 0; column < length; column++)
      for (let c = 0; c < w.channels; c++) {
        const place = from + column * w.channels + c;
        const value = image[at + place] as number;
        // The first value of a window is taken as it is, so that -Infinity and NaN have a place too.
        if ((places[to + c] as number) >= 0 && !(value > (out[to + c] as number))) continue;
        out[to + c] = value;
        places[to + c] = place;
      }
  });
}

/** Values of each window that are within the image. */
export function windowCounts(w: Windows): Float64Array {
  const counts = new Float64Array(w.outRows * w.outColumns);
  eachRun(w, (window, _from, _tap, length) => {
    counts[window] = (counts[window] as number) + length;
  });
  return counts;
}

/** Adds the mean of each window and channel to `out`. Shapes: `counts` of `windowCounts`. */
export function averagePool(
  w: Windows,
  counts: Float64Array,
  image: Float64Array,
  at: number,
  out: Float64Array,
  outAt: number,
): void {
  eachRun(w, (window, from, _tap, length) => {
    const to = outAt + window * w.channels;
    for (let i = 0, n = length * w.channels; i < n; i++) {
      const c = to + (i % w.channels);
      out[c] = (out[c] as number) + (image[at + from + i] as number);
    }
  });
  for (let i = 0, n = counts.length * w.channels; i < n; i++)
    out[outAt + i] = (out[outAt + i] as number) / (counts[Math.floor(i / w.channels)] as number);
}

/** Adds the gradient of `averagePool` by its image. */
export function averagePoolBack(
  w: Windows,
  counts: Float64Array,
  errors: Float64Array,
  errorsAt: number,
  image: Float64Array,
  at: number,
): void {
  eachRun(w, (window, from, _tap, length) => {
    const source = errorsAt + window * w.channels;
    for (let i = 0, n = length * w.channels; i < n; i++) {
      const to = at + from + i;
      image[to] = (image[to] as number) + (errors[source + (i % w.channels)] as number) / (counts[window] as number);
    }
  });
}
