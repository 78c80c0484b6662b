import { product } from './kernels/matrix.ts';

/** out[r, j] = bias[j] + sum_i x[r, i] w[i, j], r < rows. Weights at `kernel`, bias behind them in `parameters`. */
export function forwardDense(
  x: Float64Array,
  rows: number,
  inputs: number,
  parameters: Float64Array,
  kernel: number,
  outputs: number,
  out: Float64Array,
): void {
  const bias = kernel + inputs * outputs;
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < outputs; j++) out[r * outputs + j] = parameters[bias + j] as number;
  const [m, n, k] = [rows, outputs, inputs];
  product({ m, n, k, a: x, aAt: 0, ai: inputs, al: 1, b: parameters, bAt: kernel, c: out, cAt: 0 });
}

function dot(
  x: Float64Array,
  at: number,
  inputs: number,
  parameters: Float64Array,
  start: number,
  stride: number,
  bias: number,
): number {
  let sum = parameters[bias] as number;
  for (let i = 0, w = start; i < inputs; i++, w += stride) sum += (x[at + i] as number) * (parameters[w] as number);
  return sum;
}

/** One row of `forwardDense`; walks the weights in memory order, four rows of them at a time. */
export function forwardRow(
  x: Float64Array,
  at: number,
  inputs: number,
  parameters: Float64Array,
  kernel: number,
  outputs: number,
  out: Float64Array,
  to: number,
): void {
  const bias = kernel + inputs * outputs;
  let j = 0;
  for (; j + 4 <= outputs; j += 4) {
    let s0 = parameters[bias + j] as number;
    let s1 = parameters[bias + j + 1] as number;
    let s2 = parameters[bias + j + 2] as number;
    let s3 = parameters[bias + j + 3] as number;
    let w = kernel + j;
    for (let i = at, end = at + inputs; i < end; i++, w += outputs) {
      const a = x[i] as number;
      s0 += a * (parameters[w] as number);
      s1 += a * (parameters[w + 1] as number);
      s2 += a * (parameters[w + 2] as number);
      s3 += a * (parameters[w + 3] as number);
    }
    out[to + j] = s0;
    out[to + j + 1] = s1;
    out[to + j + 2] = s2;
    out[to + j + 3] = s3;
  }
  for (; j < outputs; j++) out[to + j] = dot(x, at, inputs, parameters, kernel + j, outputs, bias + j);
}

/** gradient[i, j] = sum_r x[r, i] d[r, j], then the bias gradient sum_r d[r, j] behind it. */
export function kernelGradient(
  x: Float64Array,
  rows: number,
  inputs: number,
  d: Float64Array,
  outputs: number,
  gradient: Float64Array,
  kernel: number,
): void {
  const bias = kernel + inputs * outputs;
  gradient.fill(0, kernel, bias + outputs);
  const [m, n, k] = [inputs, outputs, rows];
  product({ m, n, k, a: x, aAt: 0, ai: 1, al: inputs, b: d, bAt: 0, c: gradient, cAt: kernel });
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < outputs; j++)
      gradient[bias + j] = (gradient[bias + j] as number) + (d[r * outputs + j] as number);
}

/** Gradient of one record: the outer product of its activations and output errors, then the errors as bias gradient, if any. */
export function outerGradient(
  x: Float64Array,
  inputs: number,
  d: Float64Array,
  outputs: number,
  gradient: Float64Array,
  kernel: number,
  hasBias = true,
): void {
  let i = 0;
  // Two rows a pass: each error is read once for both.
  for (; i + 2 <= inputs; i += 2) {
    const a = x[i] as number;
    const b = x[i + 1] as number;
    const row = kernel + i * outputs;
    for (let j = 0; j < outputs; j++) {
      const error = d[j] as number;
      gradient[row + j] = a * error;
      gradient[row + outputs + j] = b * error;
    }
  }
  for (; i < inputs; i++) {
    const a = x[i] as number;
    for (let j = 0; j < outputs; j++) gradient[kernel + i * outputs + j] = a * (d[j] as number);
  }
  for (let j = 0; hasBias && j < outputs; j++) gradient[kernel + inputs * outputs + j] = d[j] as number;
}

/** back[i] = sum_j d[j] w[i, j], where there is a ReLU 0 unless its unit was active: one record. */
export function backRow(
  d: Float64Array,
  outputs: number,
  parameters: Float64Array,
  kernel: number,
  inputs: number,
  relu: Float64Array | null,
  back: Float64Array,
): void {
  for (let i = 0; i < inputs; i++) {
    let sum = 0;
    if (relu === null || (relu[i] as number) > 0) {
      for (let j = 0, w = kernel + i * outputs; j < outputs; j++, w++)
        sum += (d[j] as number) * (parameters[w] as number);
    }
    back[i] = sum;
  }
}

/** Columns of records side by side, which the product wants; scratch that grows with the widest layer. */
let columns = new Float64Array(0);

/** back[r, i] = sum_j d[r, j] w[i, j], where there is a ReLU 0 unless its unit was active. */
export function backDense(
  d: Float64Array,
  rows: number,
  outputs: number,
  parameters: Float64Array,
  kernel: number,
  inputs: number,
  relu: Float64Array | null,
  back: Float64Array,
): void {
  const sums = outputs * rows;
  if (columns.length < sums + inputs * rows) columns = new Float64Array(sums + inputs * rows);
  for (let j = 0; j < outputs; j++) for (let r = 0; r < rows; r++) columns[j * rows + r] = d[r * outputs + j] as number;
  columns.fill(0, sums, sums + inputs * rows);
  const [m, n, k] = [inputs, rows, outputs];
  product({ m, n, k, a: parameters, aAt: kernel, ai: outputs, al: 1, b: columns, bAt: 0, c: columns, cAt: sums });
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < inputs; i++) {
      const at = r * inputs + i;
      back[at] = relu === null || (relu[at] as number) > 0 ? (columns[sums + i * rows + r] as number) : 0;
    }
}
