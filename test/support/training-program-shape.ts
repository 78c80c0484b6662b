import { fileURLToPath } from 'node:url';
import type { DenseShape } from '../../src/learning/manifest.ts';

/** The one model that the training program of the tests knows. */
export const PROGRAM_SHAPE: DenseShape = { inputs: 11, hidden: [9], classes: 4 };
/** The program as the build leaves it. */
export const PROGRAM_PATH: string = fileURLToPath(
  new URL('../../dist/test/support/training-program.js', import.meta.url),
);
