import { CoveyError } from '../../protocol/errors.ts';

/**
 * How a gradient moves the parameters. Units: `stepSize` as a learning rate. `weightDecay` w is added to the gradient
 * as w times the parameters (an L2 penalty, not the decoupled decay of AdamW), everywhere alike.
 */
export type OptimizerSpec =
  | { readonly kind: 'sgd'; readonly stepSize: number; readonly momentum: number; readonly weightDecay: number }
  | { readonly kind: 'adam'; readonly stepSize: number; readonly weightDecay: number };

/** An optimizer without its step size, as a run names it; what is left out is zero. */
export type LocalOptimizer =
  | { readonly kind: 'sgd'; readonly momentum?: number | undefined; readonly weightDecay?: number | undefined }
  | { readonly kind: 'adam'; readonly weightDecay?: number | undefined };

/** The optimizer of local training; plain SGD if none is named. */
export function optimizerOf(stepSize: number, named: LocalOptimizer = { kind: 'sgd' }): OptimizerSpec {
  const { weightDecay = 0 } = named;
  return named.kind === 'adam'
    ? { kind: 'adam', stepSize, weightDecay }
    : { kind: 'sgd', stepSize, momentum: named.momentum ?? 0, weightDecay };
}

/** Moves the parameters along a gradient, both of the length given at creation; remembers its own moments. */
export type OptimizerStep = (parameters: Float64Array, gradient: Float64Array) => void;

/** @throws CoveyError USAGE_RANGE for settings that train nothing or diverge at once. */
export function checkOptimizer(spec: OptimizerSpec): void {
  const inRange = (name: string, value: number, isValid: boolean, expected: string): void => {
    if (!isValid) throw new CoveyError('USAGE_RANGE', `"${name}" expected ${expected}, got ${value}`);
  };
  const { stepSize, weightDecay } = spec;
  inRange('stepSize', stepSize, stepSize > 0 && stepSize < Infinity, 'a positive number');
  inRange('weightDecay', weightDecay, weightDecay >= 0 && weightDecay < Infinity, 'a number >= 0');
  if (spec.kind === 'sgd') inRange('momentum', spec.momentum, spec.momentum >= 0 && spec.momentum < 1, '0 <= m < 1');
}

/** v <- momentum v + g, w <- w - step v (Polyak 1964, without Nesterov's look-ahead). */
function createSgd(length: number, stepSize: number, momentum: number, weightDecay: number): OptimizerStep {
  const velocity = new Float64Array(momentum === 0 ? 0 : length);
  return (parameters, gradient) => {
    for (let i = 0; i < length; i++) {
      const w = parameters[i] as number;
      let v = (gradient[i] as number) + weightDecay * w;
      if (momentum !== 0) {
        v += momentum * (velocity[i] as number);
        velocity[i] = v;
      }
      parameters[i] = w - stepSize * v;
    }
  };
}

function createAdam(length: number, stepSize: number, weightDecay: number): OptimizerStep {
  const first = new Float64Array(length);
  const second = new Float64Array(length);
  let t = 0;
  return (parameters, gradient) => {
    t++;
    // Bias corrections of Kingma and Ba 2015, moved out of the loop.
    const rate = (stepSize * Math.sqrt(1 - 0.999 ** t)) / (1 - 0.9 ** t);
    const floor = 1e-8 * Math.sqrt(1 - 0.999 ** t);
    for (let i = 0; i < length; i++) {
      const w = parameters[i] as number;
      const g = (gradient[i] as number) + weightDecay * w;
      const m = 0.9 * (first[i] as number) + 0.1 * g;
      const v = 0.999 * (second[i] as number) + 0.001 * g * g;
      first[i] = m;
      second[i] = v;
      parameters[i] = w - (rate * m) / (Math.sqrt(v) + floor);
    }
  };
}

/**
 * Creates an optimizer in double precision, without memory of any earlier training.
 * @throws CoveyError USAGE_RANGE for settings out of range.
 */
export function createOptimizer(spec: OptimizerSpec, length: number): OptimizerStep {
  checkOptimizer(spec);
  return spec.kind === 'sgd'
    ? createSgd(length, spec.stepSize, spec.momentum, spec.weightDecay)
    : createAdam(length, spec.stepSize, spec.weightDecay);
}
