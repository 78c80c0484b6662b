import { rationalOf } from './fixed-point.ts';
import { skellamLaw } from './skellam-law.ts';
import { type NoiseSampler, tableSampler } from './table-sampler.ts';

/**
 * Creates, or remembers, the exact sampler of Skellam noise: the difference of two Poisson variables of mean
 * variance / 2. Sums of independent draws are Skellam noise of the summed variance.
 * Units: `variance` in squared integer units, the exact number that the double is.
 * Random, Secrets, Not guaranteed: as `tableSampler`. Cost: a table takes 1 to 200 ms, most beyond deviation 1,024.
 * @throws CoveyError USAGE_RANGE for a variance outside [1/4, 2^50].
 * @see privacy F12, F17; Agarwal, Kairouz, Liu 2021
 */
export function createSkellam(variance: number): NoiseSampler {
  return tableSampler('skellam', variance, () => skellamLaw(rationalOf(variance)));
}
