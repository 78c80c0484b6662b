/**
 * Inner loops of the dense oracle. Matrices are rows-first doubles; `a` is the offset of the first element.
 * Blocks of 4 x 2 sums keep eight running sums in registers, which is what makes plain loops fast enough.
 */

/** out[r, j] = bias[j] + sum_i x[r, i] w[i, j], r < rows. Weights at `kernel`, bias at `bias` of `parameters`. */
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
  let r = 0;
  for (; r + 4 <= rows; r += 4) {
    const x0 = r * inputs;
    let j = 0;
    for (; j + 2 <= outputs; j += 2) {
      const b0 = parameters[bias + j] as number;
      const b1 = parameters[bias + j + 1] as number;
      let s00 = b0;
      let s01 = b1;
      let s10 = b0;
      let s11 = b1;
      let s20 = b0;
      let s21 = b1;
      let s30 = b0;
      let s31 = b1;
      let w = kernel + j;
      for (let i = x0, end = x0 + inputs; i < end; i++, w += outputs) {
        const w0 = parameters[w] as number;
        const w1 = parameters[w + 1] as number;
        const a = x[i] as number;
        s00 += a * w0;
        s01 += a * w1;
        const b = x[i + inputs] as number;
        s10 += b * w0;
        s11 += b * w1;
        const c = x[i + 2 * inputs] as number;
        s20 += c * w0;
        s21 += c * w1;
        const d = x[i + 3 * inputs] as number;
        s30 += d * w0;
        s31 += d * w1;
      }
      const o = r * outputs + j;
      out[o] = s00;
      out[o + 1] = s01;
      out[o + outputs] = s10;
      out[o + outputs + 1] = s11;
      out[o + 2 * outputs] = s20;
      out[o + 2 * outputs + 1] = s21;
      out[o + 3 * outputs] = s30;
      out[o + 3 * outputs + 1] = s31;
    }
    for (; j < outputs; j++) {
      for (let k = r; k < r + 4; k++)
        out[k * outputs + j] = dot(x, k * inputs, inputs, parameters, kernel + j, outputs, bias + j);
    }
  }
  for (; r < rows; r++) forwardRow(x, r * inputs, inputs, parameters, kernel, outputs, out, r * outputs);
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
  let i = 0;
  for (; i + 4 <= inputs; i += 4) {
    let j = 0;
    for (; j + 2 <= outputs; j += 2) {
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      let s20 = 0;
      let s21 = 0;
      let s30 = 0;
      let s31 = 0;
      for (let r = 0, a = i, b = j; r < rows; r++, a += inputs, b += outputs) {
        const d0 = d[b] as number;
        const d1 = d[b + 1] as number;
        const x0 = x[a] as number;
        s00 += x0 * d0;
        s01 += x0 * d1;
        const x1 = x[a + 1] as number;
        s10 += x1 * d0;
        s11 += x1 * d1;
        const x2 = x[a + 2] as number;
        s20 += x2 * d0;
        s21 += x2 * d1;
        const x3 = x[a + 3] as number;
        s30 += x3 * d0;
        s31 += x3 * d1;
      }
      const g = kernel + i * outputs + j;
      gradient[g] = s00;
      gradient[g + 1] = s01;
      gradient[g + outputs] = s10;
      gradient[g + outputs + 1] = s11;
      gradient[g + 2 * outputs] = s20;
      gradient[g + 2 * outputs + 1] = s21;
      gradient[g + 3 * outputs] = s30;
      gradient[g + 3 * outputs + 1] = s31;
    }
    for (; j < outputs; j++)
      for (let k = i; k < i + 4; k++) gradient[kernel + k * outputs + j] = columnDot(x, k, inputs, d, j, outputs, rows);
  }
  for (; i < inputs; i++)
    for (let j = 0; j < outputs; j++) gradient[kernel + i * outputs + j] = columnDot(x, i, inputs, d, j, outputs, rows);
  const bias = kernel + inputs * outputs;
  for (let j = 0; j < outputs; j++) {
    let sum = 0;
    for (let r = 0; r < rows; r++) sum += d[r * outputs + j] as number;
    gradient[bias + j] = sum;
  }
}

function columnDot(
  x: Float64Array,
  i: number,
  inputs: number,
  d: Float64Array,
  j: number,
  outputs: number,
  rows: number,
): number {
  let sum = 0;
  for (let r = 0; r < rows; r++) sum += (x[r * inputs + i] as number) * (d[r * outputs + j] as number);
  return sum;
}

/** Gradient of one record: the outer product of its activations and output errors, then the errors as bias gradient. */
export function outerGradient(
  x: Float64Array,
  inputs: number,
  d: Float64Array,
  outputs: number,
  gradient: Float64Array,
  kernel: number,
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
  for (let j = 0; j < outputs; j++) gradient[kernel + inputs * outputs + j] = d[j] as number;
}

/** back[r, i] = sum_j d[r, j] w[i, j] where the unit was active (ReLU), else 0. */
export function backDense(
  d: Float64Array,
  rows: number,
  outputs: number,
  parameters: Float64Array,
  kernel: number,
  inputs: number,
  activation: Float64Array,
  back: Float64Array,
): void {
  for (let r = 0; r < rows; r++) {
    const from = r * outputs;
    for (let i = 0; i < inputs; i++) {
      const at = r * inputs + i;
      let sum = 0;
      if ((activation[at] as number) > 0) {
        for (let j = 0, w = kernel + i * outputs; j < outputs; j++, w++)
          sum += (d[from + j] as number) * (parameters[w] as number);
      }
      back[at] = sum;
    }
  }
}
