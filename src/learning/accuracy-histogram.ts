/*
 * Accuracies of a federation from one noisy histogram: every participant adds a one to the bin of its accuracy. What is
 * made of the released histogram is post-processing and free of privacy cost.
 */

/** Bin of an accuracy among `bins` equal parts of [0, 1]; the last one holds 1. What is not in [0, 1] is put to its ends. */
export function accuracyBin(accuracy: number, bins: number): number {
  // Not a number counts as no right answer: a visible refusal would be a release (privacy 3.5).
  const bin = Math.floor(accuracy * bins);
  return bin > 0 ? Math.min(bin, bins - 1) : 0;
}

/** Statistics over participants. Units: accuracies in [0, 1], each known to half a bin. */
export interface HistogramSummary {
  readonly mean: number;
  readonly stddev: number;
  /** Mean over the worst tenth of the participants, at least one. */
  readonly worstTenth: number;
}

/**
 * Nearest histogram without negative counts whose counts add up to `total` (Euclidean projection on a simplex).
 * @see Duchi, Shalev-Shwartz, Singer, Chandra 2008, Figure 1
 */
export function projectHistogram(noisy: readonly number[], total: number): number[] {
  let sum = 0;
  let shift = 0;
  [...noisy]
    .sort((a, b) => b - a)
    .forEach((count, i) => {
      sum += count;
      const candidate = (sum - total) / (i + 1);
      if (count > candidate) shift = candidate;
    });
  return noisy.map((count) => Math.max(0, count - shift));
}

/**
 * Mean, deviation and worst tenth from a noisy histogram over `members` participants, each at the middle of its bin.
 * Participants without test records are in no bin; the public `members` counts them all the same.
 */
export function summarizeHistogram(noisy: readonly number[], members: number): HistogramSummary {
  const counts = projectHistogram(noisy, members);
  const middle = (bin: number): number => (bin + 0.5) / counts.length;
  const mean = counts.reduce((sum, count, bin) => sum + count * middle(bin), 0) / members;
  const variance = counts.reduce((sum, count, bin) => sum + count * (middle(bin) - mean) ** 2, 0) / members;
  const tenth = Math.min(members, Math.max(1, Math.floor(members / 10)));
  let left = tenth;
  let worst = 0;
  counts.forEach((count, bin) => {
    const taken = Math.min(left, count);
    worst += taken * middle(bin);
    left -= taken;
  });
  return { mean, stddev: Math.sqrt(variance), worstTenth: worst / tenth };
}

/**
 * Standard deviation that the noise gives the mean of the unprojected histogram, and about an upper one for the mean above.
 * Units: `noiseStddev` in members a bin.
 */
export function meanNoiseStddev(noiseStddev: number, bins: number, members: number): number {
  let squares = 0;
  for (let bin = 0; bin < bins; bin++) squares += ((bin + 0.5) / bins - 0.5) ** 2;
  return (noiseStddev * Math.sqrt(squares)) / members;
}
