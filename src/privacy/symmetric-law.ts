/**
 * A law on the integers, symmetric about zero and falling on both sides, as the samplers need it: every number that a
 * draw is decided by, to as many digits as asked for.
 */
export interface SymmetricLaw {
  /**
   * Cumulative weights of the cells: cell k stands for the magnitudes m*k ... m*k + m - 1 and has weight P(m*k),
   * doubled for k > 0 if `mirrored` (both signs in one cell, m = 1 only). Integers c_k with |c_k - 2^bits * C_k| < 2,
   * C_k normalized over all cells, the infinite tail included; k from 0 until what is left is below 2^-bits.
   */
  cumulativeWeights(cellWidth: number, mirrored: boolean, bits: number): readonly bigint[];
  /** t with P(magnitude + offset) = exp(-t) P(magnitude) in doubles; exp(-t) is off by less than `slack`. */
  exponent(magnitude: number, offset: number): number;
  readonly slack: number;
  /** Magnitudes up to which `exponent` keeps its promise; beyond them only `ratio` decides. */
  readonly fastReach: number;
  /** P(magnitude + offset) / P(magnitude): an integer r with |r - 2^bits * ratio| <= 2. */
  ratio(magnitude: number, offset: number, bits: number): bigint;
}
