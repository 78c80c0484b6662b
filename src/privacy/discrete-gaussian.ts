import { discreteGaussianLaw } from './discrete-gaussian-law.ts';
import { rationalOf } from './fixed-point.ts';
import { type NoiseSampler, tableSampler } from './table-sampler.ts';

/**
 * Creates, or remembers, the exact sampler of the discrete Gaussian N_Z(0, variance): P(x) proportional to
 * exp(-x^2 / (2 * variance)).
 * Units: `variance` in squared integer units, the exact number that the double is.
 * Random, Secrets, Not guaranteed: as `tableSampler`. Cost: a table takes 1 to 20 ms.
 * @throws CoveyError USAGE_RANGE for a variance outside [1/4, 2^50].
 * @see privacy F10, F17; Canonne, Kamath, Steinke 2020
 */
export function createDiscreteGaussian(variance: number): NoiseSampler {
  return tableSampler('discrete-gaussian', variance, () => discreteGaussianLaw(rationalOf(variance)));
}
