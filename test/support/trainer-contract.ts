import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isCoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { tensorLength } from '../../src/learning/manifest.ts';
import type { OptimizerSpec } from '../../src/learning/optimizer.ts';
import {
  type Assurance,
  type FitResult,
  type FitTask,
  flattenModel,
  MAX_GRADIENT_VALUES,
  parameterCount,
  type RecordGradientsResult,
  type Trainer,
} from '../../src/learning/trainer.ts';
import { sampleValues } from '../tensor-samples.ts';
import { sampleData, sampleModel } from './learning-samples.ts';

/** A trainer and what the suite must know of it. */
export interface TrainerSubject {
  make(): Promise<Trainer>;
  readonly featureLength: number;
  readonly assurance: Assurance;
  /** Largest relative errors of sums of gradients and of finite differences over a step; `rounding`: error of a loss. */
  readonly accuracy: {
    readonly gradient: number;
    readonly derivative: number;
    readonly step: number;
    readonly rounding: number;
  };
  /** Optimizers that it knows; the others it refuses. */
  readonly optimizers: readonly string[];
  /** Maps uniform draws from [-1, 1) to features. */
  readonly toFeature?: ((value: number) => number) | undefined;
}

/** Every optimizer of the interface, by name. */
const OPTIMIZERS: Readonly<Record<string, OptimizerSpec>> = {
  sgd: { kind: 'sgd', stepSize: 0.2, momentum: 0, weightDecay: 0 },
  momentum: { kind: 'sgd', stepSize: 0.1, momentum: 0.9, weightDecay: 0 },
  decay: { kind: 'sgd', stepSize: 0.1, momentum: 0.5, weightDecay: 0.3 },
  adam: { kind: 'adam', stepSize: 0.05, weightDecay: 0 },
  'adam with decay': { kind: 'adam', stepSize: 0.05, weightDecay: 0.3 },
};
/** The names of all optimizers. */
export const ALL_OPTIMIZERS: readonly string[] = Object.keys(OPTIMIZERS);

/** Steps of the optimizers as their papers write them, one coordinate at a time. */
function followPaper(spec: OptimizerSpec, start: number, gradients: readonly number[]): number {
  let [w, v, m, s] = [start, 0, 0, 0];
  gradients.forEach((gradient, i) => {
    const g = gradient + spec.weightDecay * w;
    if (spec.kind === 'sgd') {
      v = spec.momentum * v + g;
      w -= spec.stepSize * v;
    } else {
      m = 0.9 * m + 0.1 * g;
      s = 0.999 * s + 0.001 * g * g;
      const t = i + 1;
      w -= (spec.stepSize * (m / (1 - 0.9 ** t))) / (Math.sqrt(s / (1 - 0.999 ** t)) + 1e-8);
    }
  });
  return w;
}

async function refusal(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    // One line for a person, whatever happened.
    expect(error.message).not.toContain('\n');
    return error.code;
  }
  return 'accepted';
}

/** What every trainer must do, whatever computes: in this process, on a tensor engine or in another program. */
export function describeTrainer(name: string, subject: TrainerSubject): void {
  describe(`trainer contract: ${name}`, () => {
    const { accuracy, featureLength } = subject;
    let trainer: Trainer;
    let data: Dataset;
    let parameters: Float32Array;
    let length: number;

    beforeAll(async () => {
      trainer = await subject.make();
      length = parameterCount(trainer.manifest);
      data = sampleData(trainer, featureLength, 12, 100, subject.toFeature);
      parameters = flattenModel(sampleModel(trainer, 200));
    });
    afterAll(() => trainer.close());

    const task = (changes: Partial<FitTask> = {}): FitTask => ({
      layout: trainer.layout,
      parameters,
      data,
      epochs: 1,
      batchSize: data.count,
      optimizer: OPTIMIZERS['sgd'] as OptimizerSpec,
      seed: 7,
      timeLimitMs: 60_000,
      ...changes,
    });
    const rows = (
      records: readonly number[],
      changes: Partial<FitTask> = {},
      on: Trainer = trainer,
    ): Promise<RecordGradientsResult> => on.recordGradients({ ...task(changes), records: Uint32Array.from(records) });
    const all = (): number[] => Array.from({ length: data.count }, (_, i) => i);
    const rowOf = (result: RecordGradientsResult, row: number): Float32Array =>
      result.gradients.subarray(row * length, (row + 1) * length);
    /** Mean gradient over all records at a point, in doubles. */
    const meanAt = async (point: Float32Array): Promise<Float64Array> => {
      const { gradients } = await rows(all(), { parameters: point });
      const mean = new Float64Array(length);
      gradients.forEach((value, i) => {
        mean[i % length] = (mean[i % length] as number) + value / data.count;
      });
      return mean;
    };
    const norm = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));

    it('says who vouches for its results, and counts records', async () => {
      const fitted = await trainer.fit(task());
      const { assurance } = await rows([0]);
      expect([trainer.assurance, fitted.assurance, assurance]).toEqual(Array(3).fill(subject.assurance));
      expect(fitted.numExamples).toBe(data.count);
      expect(fitted.parameters.length).toBe(length);
      expect(Object.values(fitted.metrics).every(Number.isFinite)).toBe(true);
      // The loss is that of the last epoch, as its steps met it.
      const again = await trainer.fit(task({ epochs: 2 }));
      for (const [{ metrics }, before] of [
        [fitted, parameters],
        [again, fitted.parameters],
      ] as const) {
        const { losses } = await rows(all(), { parameters: before });
        const mean = losses.reduce((sum, loss) => sum + loss / data.count, 0);
        expect(Math.abs((metrics['loss'] as number) - mean)).toBeLessThan(1e-4 * (1 + mean));
      }
    });

    it('has gradients of records that agree with finite differences of their losses, tensor by tensor', async () => {
      const records = [0, 1, 2, 3];
      const center = await rows(records);
      // Of the parameters of a group, those of one tensor are next to each other.
      const starts = { body: 0, head: trainer.manifest.bodyLength };
      for (const [t, tensor] of trainer.manifest.tensors.entries()) {
        const [start, end] = [starts[tensor.group], starts[tensor.group] + tensorLength(tensor)];
        starts[tensor.group] = end;
        const random = sampleValues(end - start, 300 + t);
        const scale = accuracy.step / norm(random);
        const moved = (sign: number): Float32Array =>
          parameters.map((value, i) =>
            i >= start && i < end ? value + sign * scale * (random[i - start] as number) : value,
          );
        // What single precision made of the step, not what was asked for.
        const [high, low] = [moved(1), moved(-1)];
        const step = high.map((value, i) => value - (low[i] as number));
        const [above, below] = [await rows(records, { parameters: high }), await rows(records, { parameters: low })];
        let largest = 0;
        for (const row of records) {
          const gradient = rowOf(center, row);
          const expected = gradient.reduce((sum, value, i) => sum + value * (step[i] as number), 0);
          const difference = (above.losses[row] as number) - (below.losses[row] as number);
          const own = norm(gradient.subarray(start, end));
          largest = Math.max(largest, own);
          const allowed = accuracy.derivative * own * norm(step) + accuracy.rounding;
          expect([tensor.name, Math.abs(difference - expected) < allowed, difference, expected]).toEqual([
            tensor.name,
            true,
            difference,
            expected,
          ]);
        }
        expect(largest).toBeGreaterThan(0);
      }
    });

    for (const [optimizer, spec] of Object.entries(OPTIMIZERS)) {
      if (!subject.optimizers.includes(optimizer)) {
        it(`refuses the optimizer that it lacks: ${optimizer}`, async () => {
          expect(await refusal(() => trainer.fit(task({ optimizer: spec })))).not.toBe('accepted');
        });
        continue;
      }
      it(`moves by the mean of the gradients of all records: ${optimizer}`, async () => {
        const gradients: Float64Array[] = [];
        for (let epochs = 1; epochs <= 3; epochs++) {
          const before =
            epochs === 1 ? parameters : (await trainer.fit(task({ optimizer: spec, epochs: epochs - 1 }))).parameters;
          gradients.push(await meanAt(before));
          const after = (await trainer.fit(task({ optimizer: spec, epochs }))).parameters;
          const expected = parameters.map((start, i) =>
            followPaper(
              spec,
              start,
              gradients.map((gradient) => gradient[i] as number),
            ),
          );
          const moved = after.map((value, i) => value - (parameters[i] as number));
          const error = after.map((value, i) => value - (expected[i] as number));
          expect(norm(moved)).toBeGreaterThan(0);
          expect(norm(error)).toBeLessThan(accuracy.gradient * norm(moved));
        }
      });
    }

    it('remembers nothing: the same task gives the same bits after other tasks', async () => {
      const asked = { epochs: 2, batchSize: 5 };
      const [fitted, record] = [await trainer.fit(task(asked)), await rows([5, 2])];
      await trainer.fit(task({ parameters: parameters.map((value) => -value), epochs: 3, batchSize: 4, seed: 8 }));
      await rows([1, 5], { parameters: parameters.map((value) => 2 * value) });
      // Other records of the same shape give something else, and are forgotten too.
      const elsewhere = { data: sampleData(trainer, featureLength, data.count, 900, subject.toFeature) };
      expect((await trainer.fit(task({ ...asked, ...elsewhere }))).parameters).not.toEqual(fitted.parameters);
      expect(await rows([5, 2], elsewhere)).not.toEqual(record);
      expect(await trainer.fit(task(asked))).toEqual(fitted);
      expect(await rows([5, 2])).toEqual(record);
      // A task that failed leaves nothing behind either.
      await refusal(() => trainer.fit(task({ parameters: parameters.map(() => 3e38) })));
      expect(await trainer.fit(task(asked))).toEqual(fitted);
    });

    it('gives the same bits in another instance, and another order of minibatches for another seed', async () => {
      const asked = task({ epochs: 2, batchSize: 5 });
      const fitted = await trainer.fit(asked);
      const other = await subject.make();
      try {
        expect(other.layout).toBe(trainer.layout);
        expect(await other.fit(asked)).toEqual(fitted);
        expect(await rows([3], {}, other)).toEqual(await rows([3]));
      } finally {
        await other.close();
      }
      expect((await trainer.fit({ ...asked, seed: 8 })).parameters).not.toEqual(fitted.parameters);
    });

    it('gives a record the same bits whatever the other records are', async () => {
      const alone = rowOf(await rows([5]), 0);
      const replaced: Dataset = {
        ...data,
        features: data.features.map((value, i) =>
          Math.floor(i / featureLength) === 5 ? value : (data.features[(i + 7) % data.features.length] as number),
        ),
        labels: data.labels.map((label, r) => (r === 5 ? label : (label + 1) % data.classes)),
      };
      expect(rowOf(await rows([0, 5, 1, 5], { data: replaced }), 1)).toEqual(alone);
      expect(rowOf(await rows([0, 5, 1, 5], { data: replaced }), 3)).toEqual(alone);
    });

    it('leaves its arguments as they were and hands out arrays of its own', async () => {
      const before = structuredClone({ parameters, data });
      const fitted = await trainer.fit(task());
      const gradients = await rows([0, 1]);
      expect({ parameters, data }).toEqual(before);
      const kept = structuredClone({ fitted, gradients });
      await trainer.fit(task({ epochs: 2 }));
      await rows([2, 3]);
      expect({ fitted, gradients }).toEqual(kept);
      expect(fitted.parameters.buffer).not.toBe(parameters.buffer);
    });

    it('gives rows of zeros where a gradient is not finite, and no model that is not finite', async () => {
      const broken = parameters.map(() => Number.NaN);
      const { gradients, zeroedRows } = await rows([0, 1, 2], { parameters: broken });
      expect(zeroedRows).toBe(3);
      expect(norm(gradients)).toBe(0);
      const huge = parameters.map((value) => 3e38 * Math.sign(value));
      const overflowing = await rows([0, 1, 2], { parameters: huge });
      expect(overflowing.gradients.every(Number.isFinite)).toBe(true);
      expect(await refusal(() => trainer.fit(task({ parameters: broken })))).toBe('USAGE_DIVERGED');
      // How far numbers reach differs: either way no model comes out that is not finite.
      const outcome = await trainer.fit(task({ parameters: huge })).catch((error: unknown) => error);
      expect(isCoveyError(outcome, 'USAGE_DIVERGED') || (outcome as FitResult).parameters.every(Number.isFinite)).toBe(
        true,
      );
    });

    it('keeps the rows of the others when one record is not a number', async () => {
      const poisoned: Dataset = {
        ...data,
        features: data.features.map((value, i) => (Math.floor(i / featureLength) === 1 ? Number.NaN : value)),
      };
      const { gradients } = await rows([0, 1, 2], { data: poisoned });
      const good = await rows([0, 1, 2]);
      for (const row of [0, 2]) expect(gradients.slice(row * length, (row + 1) * length)).toEqual(rowOf(good, row));
      expect(gradients.every(Number.isFinite)).toBe(true);
    });

    it('answers an empty sample with nothing', async () => {
      const { losses, gradients, zeroedRows } = await rows([]);
      expect([losses.length, gradients.length, zeroedRows]).toEqual([0, 0, 0]);
    });

    it('refuses what does not fit, before it works', async () => {
      const wrong: readonly (readonly [string, Partial<FitTask>])[] = [
        ['USAGE_RANGE', { parameters: parameters.subarray(1) }],
        ['USAGE_RANGE', { parameters: new Float32Array(length + 1) }],
        ['USAGE_CONFIG', { layout: trainer.layout.replace(/./g, '0') }],
        ['USAGE_RANGE', { data: { ...data, featureLength: featureLength + 1 } }],
        ['USAGE_RANGE', { data: { ...data, classes: 200 } }],
        ['USAGE_RANGE', { timeLimitMs: 0 }],
        ['USAGE_RANGE', { timeLimitMs: Number.NaN }],
      ];
      for (const [code, changes] of wrong) {
        expect([Object.keys(changes), await refusal(() => trainer.fit(task(changes)))]).toEqual([
          Object.keys(changes),
          code,
        ]);
        expect(await refusal(() => rows([0], changes))).toBe(code);
      }
      const sgd = { kind: 'sgd', stepSize: 0.1, momentum: 0, weightDecay: 0 } as const;
      for (const changes of [
        { epochs: 0 },
        { epochs: 1.5 },
        { batchSize: 0 },
        { seed: -1 },
        { data: sampleData(trainer, featureLength, 0, 1, subject.toFeature) },
        { optimizer: { ...sgd, stepSize: 0 } },
        { optimizer: { ...sgd, momentum: 1 } },
        { optimizer: { ...sgd, weightDecay: -1 } },
      ])
        expect(await refusal(() => trainer.fit(task(changes)))).toBe('USAGE_RANGE');
      expect(await refusal(() => rows([0, data.count]))).toBe('USAGE_RANGE');
      const many = new Array<number>(Math.floor(MAX_GRADIENT_VALUES / length) + 1).fill(0);
      expect(await refusal(() => rows(many))).toBe('USAGE_RANGE');
    });

    it('does not start what has no time left, and goes on with the next task', async () => {
      const late = { timeLimitMs: 1e-6 };
      expect(await refusal(() => trainer.fit(task(late)))).toBe('DEP_TRAINER_TIMEOUT');
      expect(await refusal(() => rows([0], late))).toBe('DEP_TRAINER_TIMEOUT');
      expect((await rows([0])).losses.length).toBe(1);
    });

    it('refuses every task once it is closed, and may be closed twice', async () => {
      const other = await subject.make();
      await other.close();
      await other.close();
      expect(await refusal(() => other.fit(task()))).toBe('USAGE_STATE');
      expect(await refusal(() => rows([0], {}, other))).toBe('USAGE_STATE');
    });
  });
}
