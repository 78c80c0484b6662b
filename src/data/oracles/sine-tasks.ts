import { portableSin } from '../portable.ts';
import { createRandom } from '../random.ts';
import type { OracleParticipant, RegressionData } from './problem.ts';

/** Separates the streams of this problem from every other use of the same seed. */
const STREAM = 0x7369_0000;

/** Amplitudes and inputs of the tasks; phases lie in [0, 2 pi). */
const AMPLITUDES = [0.1, 5] as const;
const INPUTS = [-5, 5] as const;
const GRID = 50;

/** Sizes of the few-shot sine problem. */
export interface SineTasks {
  readonly participants: number;
  /** Records to adapt to, at every participant. */
  readonly records: number;
}

/** Ten records a task, as in the Reptile simulation. */
export const SINE_TASKS: SineTasks = { participants: 100, records: 10 };

/** One task: training records at random places, test records on a grid of 50. */
export interface SineParticipant extends OracleParticipant {
  readonly test: RegressionData;
  readonly amplitude: number;
  /** Units: radians. */
  readonly phase: number;
}

function sample(inputs: Float64Array, amplitude: number, phase: number): RegressionData {
  const targets = inputs.map((x) => amplitude * portableSin(x + phase));
  return { count: inputs.length, featureLength: 1, features: inputs, targets };
}

/**
 * Draws tasks y = a sin(x + phase), a ~ U(.1, 5), phase ~ U(0, 2 pi), x ~ U(-5, 5). Averaged over tasks the best constant
 * model is 0: only adaptation helps. @see Nichol, Achiam, Schulman 2018 (Reptile), section 4.1
 */
export function generateSineTasks(seed: number, { participants, records }: SineTasks = SINE_TASKS): SineParticipant[] {
  const [low, high] = INPUTS;
  const grid = Float64Array.from({ length: GRID }, (_, i) => low + ((high - low) * i) / (GRID - 1));
  return Array.from({ length: participants }, (_, i) => {
    const random = createRandom(seed, STREAM + i);
    const amplitude = random.uniform(...AMPLITUDES);
    const phase = random.uniform(0, 2 * Math.PI);
    const inputs = Float64Array.from({ length: records }, () => random.uniform(low, high));
    return { train: sample(inputs, amplitude, phase), test: sample(grid, amplitude, phase), amplitude, phase };
  });
}

/** Expected squared error of the zero model before adaptation: E[a^2] / 2. */
export function sineTasksStartMse(): number {
  const [low, high] = AMPLITUDES;
  return (high * high + high * low + low * low) / 6;
}
