import { product } from './kernels/matrix.ts';
import { type Activation, count, type LayerSpec } from './layer-sizes.ts';
import {
  averagePool,
  averagePoolBack,
  depthwiseBack,
  depthwiseForward,
  depthwiseKernelGradient,
  fold,
  maxPool,
  placeWindows,
  unfold,
  type Windows,
  windowCounts,
  windowValues,
} from './window-kernels.ts';

/*
 * Layers of a network in doubles, for several records at a time. Sums are taken term after term in an order that the sizes of
 * the layer fix, record by record or by `product`, in which a sum does not turn on the number of rows: the bits of a record's
 * row depend on that record and the parameters alone.
 */

/** What a layer computes. Shapes: `x`, `dx` rows x inputs; `y`, `dy` rows x outputs; `parameters` those of the layer's group. */
export interface LayerPass {
  /** Overwrites `y`. */
  forward(parameters: Float64Array, x: Float64Array, y: Float64Array, rows: number): void;
  /** Turns derivatives of the loss by the outputs into those before the activation, in place. */
  settle(y: Float64Array, dy: Float64Array, rows: number): void;
  /** Overwrites `dx`, from settled errors. */
  back(parameters: Float64Array, x: Float64Array, dy: Float64Array, dx: Float64Array, rows: number): void;
  /** Overwrites the gradient of one record by the layer's parameters, from settled errors; absent where it has none. */
  readonly write?: (x: Float64Array, dy: Float64Array, row: number, gradient: Float64Array) => void;
}

const relu = (x: number): number => (x > 0 ? x : Number.isNaN(x) ? x : 0);

/** Activations, and their slopes by the input as a function of the output. */
const ACTIVATION: Readonly<Record<Exclude<Activation, 'linear'>, readonly [Of: Scalar, slope: Scalar]>> = {
  relu: [relu, (y) => (y > 0 ? 1 : 0)],
  tanh: [Math.tanh, (y) => 1 - y * y],
  sigmoid: [(x) => 1 / (1 + Math.exp(-x)), (y) => y * (1 - y)],
  elu: [(x) => (x > 0 ? x : Math.expm1(x)), (y) => (y > 0 ? 1 : y + 1)],
};
type Scalar = (value: number) => number;

function activate(values: Float64Array, length: number, activation: Activation): void {
  if (activation === 'linear') return;
  const [of] = ACTIVATION[activation];
  // Most networks spend their activations here.
  if (activation === 'relu') for (let i = 0; i < length; i++) values[i] = relu(values[i] as number);
  else for (let i = 0; i < length; i++) values[i] = of(values[i] as number);
}

function settleErrors(y: Float64Array, dy: Float64Array, length: number, activation: Activation): void {
  if (activation === 'linear') return;
  const [, slope] = ACTIVATION[activation];
  if (activation === 'relu') {
    for (let i = 0; i < length; i++) if (!((y[i] as number) > 0)) dy[i] = (dy[i] as number) * 0;
  } else for (let i = 0; i < length; i++) dy[i] = (dy[i] as number) * slope(y[i] as number);
}

/** Overwrites `rows` rows of outputs with the biases, or zeros without. */
function fillBias(y: Float64Array, rows: number, outputs: number, parameters: Float64Array, bias: number): void {
  if (bias < 0) y.fill(0, 0, rows * outputs);
  else
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < outputs; j++) y[r * outputs + j] = parameters[bias + j] as number;
}

/** Sums of the errors of one record over its positions, behind its kernel. */
function writeBias(dy: Float64Array, at: number, positions: number, outputs: number, gradient: Float64Array): void {
  const bias = gradient.length - outputs;
  gradient.fill(0, bias);
  for (let p = 0; p < positions; p++)
    for (let j = 0; j < outputs; j++)
      gradient[bias + j] = (gradient[bias + j] as number) + (dy[at + p * outputs + j] as number);
}

/** The kernel with rows and columns exchanged. */
function transposed(parameters: Float64Array, kernel: number, inputs: number, outputs: number): Float64Array {
  const result = new Float64Array(inputs * outputs);
  for (let i = 0; i < inputs; i++)
    for (let j = 0; j < outputs; j++) result[j * inputs + i] = parameters[kernel + i * outputs + j] as number;
  return result;
}

/** Where the parameters of a layer are in its group; `bias` -1 without one. */
interface Place {
  readonly kernel: number;
  readonly bias: number;
}

function densePass(inputs: number, outputs: number, activation: Activation, { kernel, bias }: Place): LayerPass {
  return {
    forward(parameters, x, y, rows) {
      fillBias(y, rows, outputs, parameters, bias);
      const [m, n, k] = [rows, outputs, inputs];
      product({ m, n, k, a: x, aAt: 0, ai: inputs, al: 1, b: parameters, bAt: kernel, c: y, cAt: 0 });
      activate(y, rows * outputs, activation);
    },
    settle: (y, dy, rows) => settleErrors(y, dy, rows * outputs, activation),
    back(parameters, _x, dy, dx, rows) {
      dx.fill(0, 0, rows * inputs);
      const b = transposed(parameters, kernel, inputs, outputs);
      product({ m: rows, n: inputs, k: outputs, a: dy, aAt: 0, ai: outputs, al: 1, b, bAt: 0, c: dx, cAt: 0 });
    },
  };
}

/** Values of unfolded windows that are held at a time; one window is always taken. */
const STRIP_VALUES = 2 ** 19;

function convolutionPass(w: Windows, outputs: number, activation: Activation, { kernel, bias }: Place): LayerPass {
  const [size, positions] = [windowValues(w), w.outRows * w.outColumns];
  const image = w.rows * w.columns * w.channels;
  const strip = Math.max(1, Math.min(positions, Math.floor(STRIP_VALUES / size)));
  let patches = new Float64Array(0);
  /** Visits the windows of a record strip by strip. */
  const eachStrip = (visit: (first: number, end: number, windows: number) => void): void => {
    if (patches.length === 0) patches = new Float64Array(strip * size);
    for (let first = 0; first < positions; first += strip) {
      const end = Math.min(positions, first + strip);
      visit(first, end, end - first);
    }
  };
  return {
    forward(parameters, x, y, rows) {
      fillBias(y, rows * positions, outputs, parameters, bias);
      for (let r = 0; r < rows; r++)
        eachStrip((first, end, m) => {
          unfold(w, x, r * image, first, end, patches);
          const cAt = (r * positions + first) * outputs;
          product({
            m,
            n: outputs,
            k: size,
            a: patches,
            aAt: 0,
            ai: size,
            al: 1,
            b: parameters,
            bAt: kernel,
            c: y,
            cAt,
          });
        });
      activate(y, rows * positions * outputs, activation);
    },
    settle: (y, dy, rows) => settleErrors(y, dy, rows * positions * outputs, activation),
    back(parameters, _x, dy, dx, rows) {
      dx.fill(0, 0, rows * image);
      const b = transposed(parameters, kernel, size, outputs);
      for (let r = 0; r < rows; r++)
        eachStrip((first, end, m) => {
          patches.fill(0);
          const aAt = (r * positions + first) * outputs;
          product({ m, n: size, k: outputs, a: dy, aAt, ai: outputs, al: 1, b, bAt: 0, c: patches, cAt: 0 });
          fold(w, patches, first, end, dx, r * image);
        });
    },
    // Unfolded windows, transposed, times errors: summed over the positions in their order.
    write(x, dy, row, gradient) {
      gradient.fill(0);
      eachStrip((first, end, k) => {
        unfold(w, x, row * image, first, end, patches);
        const bAt = (row * positions + first) * outputs;
        product({ m: size, n: outputs, k, a: patches, aAt: 0, ai: 1, al: size, b: dy, bAt, c: gradient, cAt: 0 });
      });
      if (bias >= 0) writeBias(dy, row * positions * outputs, positions, outputs, gradient);
    },
  };
}

function depthwisePass(w: Windows, multiplier: number, activation: Activation, { kernel, bias }: Place): LayerPass {
  const [outputs, positions] = [w.channels * multiplier, w.outRows * w.outColumns];
  const [image, out] = [w.rows * w.columns * w.channels, positions * outputs];
  return {
    forward(parameters, x, y, rows) {
      fillBias(y, rows * positions, outputs, parameters, bias);
      for (let r = 0; r < rows; r++) depthwiseForward(w, multiplier, x, r * image, parameters, kernel, y, r * out);
      activate(y, rows * out, activation);
    },
    settle: (y, dy, rows) => settleErrors(y, dy, rows * out, activation),
    back(parameters, _x, dy, dx, rows) {
      dx.fill(0, 0, rows * image);
      for (let r = 0; r < rows; r++) depthwiseBack(w, multiplier, dy, r * out, parameters, kernel, dx, r * image);
    },
    write(x, dy, row, gradient) {
      gradient.fill(0);
      depthwiseKernelGradient(w, multiplier, x, row * image, dy, row * out, gradient);
      if (bias >= 0) writeBias(dy, row * out, positions, outputs, gradient);
    },
  };
}

const keep = (): void => {};

/** Rows of a table. A record with an entry that is not in it has no number anywhere. */
function embeddingPass(tokens: number, entries: number, width: number, { kernel }: Place): LayerPass {
  const isReadable = (x: Float64Array, row: number): boolean => {
    for (let i = row * tokens; i < (row + 1) * tokens; i++) {
      const entry = x[i] as number;
      if (!(Number.isInteger(entry) && entry >= 0 && entry < entries)) return false;
    }
    return true;
  };
  return {
    forward(parameters, x, y, rows) {
      for (let r = 0; r < rows; r++) {
        if (!isReadable(x, r)) {
          y.fill(Number.NaN, r * tokens * width, (r + 1) * tokens * width);
          continue;
        }
        for (let i = r * tokens; i < (r + 1) * tokens; i++) {
          const from = kernel + (x[i] as number) * width;
          for (let k = 0; k < width; k++) y[i * width + k] = parameters[from + k] as number;
        }
      }
    },
    settle: keep,
    back: keep,
    write(x, dy, row, gradient) {
      if (!isReadable(x, row)) {
        gradient.fill(Number.NaN);
        return;
      }
      gradient.fill(0);
      for (let i = row * tokens; i < (row + 1) * tokens; i++) {
        const to = (x[i] as number) * width;
        for (let k = 0; k < width; k++) gradient[to + k] = (gradient[to + k] as number) + (dy[i * width + k] as number);
      }
    },
  };
}

function maxPoolPass(w: Windows): LayerPass {
  const [image, out] = [w.rows * w.columns * w.channels, w.outRows * w.outColumns * w.channels];
  let places = new Int32Array(0);
  return {
    forward(_parameters, x, y, rows) {
      if (places.length < rows * out) places = new Int32Array(rows * out);
      for (let r = 0; r < rows; r++) maxPool(w, x, r * image, y, r * out, places);
    },
    settle: keep,
    // Of the pass forward just before.
    back(_parameters, _x, dy, dx, rows) {
      dx.fill(0, 0, rows * image);
      for (let i = 0; i < rows * out; i++) {
        const place = places[i] as number;
        if (place < 0) continue;
        const to = Math.floor(i / out) * image + place;
        dx[to] = (dx[to] as number) + (dy[i] as number);
      }
    },
  };
}

function averagePoolPass(w: Windows): LayerPass {
  const [image, out] = [w.rows * w.columns * w.channels, w.outRows * w.outColumns * w.channels];
  const counts = windowCounts(w);
  return {
    forward(_parameters, x, y, rows) {
      y.fill(0, 0, rows * out);
      for (let r = 0; r < rows; r++) averagePool(w, counts, x, r * image, y, r * out);
    },
    settle: keep,
    back(_parameters, _x, dy, dx, rows) {
      dx.fill(0, 0, rows * image);
      for (let r = 0; r < rows; r++) averagePoolBack(w, counts, dy, r * out, dx, r * image);
    },
  };
}

/**
 * Plans a layer on an input; null for one that changes the shape alone. Shapes: without the records.
 * Units: `kernel` is the offset of the layer's first parameter in its group; biases follow the kernel.
 */
export function planPass(
  layer: LayerSpec,
  input: readonly number[],
  output: readonly number[],
  kernel: number,
): LayerPass | null {
  const place = (weights: number, hasBias: boolean | undefined): Place => ({
    kernel,
    bias: hasBias === false ? -1 : kernel + weights,
  });
  switch (layer.kind) {
    case 'dense': {
      const inputs = count(input);
      return densePass(inputs, layer.units, layer.activation, place(inputs * layer.units, layer.bias));
    }
    case 'conv2d':
    case 'depthwiseConv2d': {
      const w = placeWindows({ ...layer, size: layer.kernelSize }, input, output);
      return layer.kind === 'conv2d'
        ? convolutionPass(w, layer.filters, layer.activation, place(windowValues(w) * layer.filters, layer.bias))
        : depthwisePass(w, layer.multiplier, layer.activation, place(windowValues(w) * layer.multiplier, layer.bias));
    }
    case 'embedding':
      return embeddingPass(count(input), layer.entries, layer.width, place(0, false));
    case 'maxPool':
      return maxPoolPass(placeWindows(layer, input, output));
    case 'averagePool':
      return averagePoolPass(placeWindows(layer, input, output));
    case 'globalPool': {
      const channels = input.at(-1) ?? 0;
      const positions = count(input) / channels;
      const whole = { size: [positions, 1], stride: 1, padding: 'valid' } as const;
      const w = placeWindows(whole, [positions, 1, channels], [1, 1]);
      return layer.mode === 'max' ? maxPoolPass(w) : averagePoolPass(w);
    }
    case 'activation': {
      const { activation } = layer;
      const length = count(input);
      return {
        forward(_parameters, x, y, rows) {
          y.set(x.subarray(0, rows * length));
          activate(y, rows * length, activation);
        },
        settle: (y, dy, rows) => settleErrors(y, dy, rows * length, activation),
        back: (_parameters, _x, dy, dx, rows) => dx.set(dy.subarray(0, rows * length)),
      };
    }
    case 'reshape':
    case 'flatten':
      return null;
  }
}
