import { createRandom } from '../src/data/random.ts';

/** Values in [-1, 1), the same for the same seed. */
export function sampleValues(length: number, seed: number): Float64Array {
  const random = createRandom(seed);
  return Float64Array.from({ length }, () => random.uniform(-1, 1));
}
