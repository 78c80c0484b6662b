import { describe, expect, it } from 'vitest';
import { createDataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { accuracy, balancedAccuracy, summarizeAccuracies } from '../src/learning/evaluation.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { eachBatch, trainLocalOnly } from '../src/learning/local-training.ts';
import { copyModel, type GradientOracle } from '../src/learning/oracle.ts';
import { initialMoments, linearStep, publicDenominators, stepServer } from '../src/learning/server-optimizer.ts';
import { stepDitto } from '../src/personalize/ditto.ts';
import { fineTune } from '../src/personalize/fine-tuning.ts';

const oracle = createDenseOracle({ inputs: 64, hidden: [48], classes: 10 });
const { train, test } = generateDigits(3, 0);
const start = initialModel(oracle.manifest, createRandom(11));

/** F(v) = |v - target|^2 / 2 for every record: an oracle with answers on paper. */
function quadratic(target: number): GradientOracle {
  return {
    manifest: { tensors: [], bodyLength: 1, headLength: 1 },
    perRecordGradient: () => 0,
    meanGradient: (body, head, _data, _records, bodyGradient, headGradient) => {
      bodyGradient[0] = (body[0] as number) - target;
      headGradient[0] = (head[0] as number) + target;
      return 0;
    },
    losses: () => new Float64Array(1),
    predict: () => new Uint8Array(1),
  };
}
const single = createDataset(1, 2, new Float32Array(1), new Uint8Array(1));

describe('finite differences of the dense oracle', () => {
  for (const shape of [
    { inputs: 5, hidden: [], classes: 3 },
    { inputs: 5, hidden: [7], classes: 3 },
    { inputs: 4, hidden: [6, 5], classes: 2 },
  ]) {
    it(`agree for ${[shape.inputs, ...shape.hidden, shape.classes].join('-')}, every coordinate`, () => {
      const small = createDenseOracle(shape);
      const random = createRandom(5);
      const features = Float32Array.from({ length: 3 * shape.inputs }, () => random.uniform(-1, 1));
      const data = createDataset(shape.inputs, shape.classes, features, Uint8Array.of(0, 1, shape.classes - 1));
      const model = initialModel(small.manifest, random);
      const gradient = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
      for (let record = 0; record < 3; record++) {
        small.perRecordGradient(model.body, model.head, data, record, gradient.body, gradient.head);
        for (const group of ['body', 'head'] as const) {
          for (let i = 0; i < model[group].length; i++) {
            const lossAt = (shift: number): number => {
              const moved = copyModel(model);
              moved[group][i] = (moved[group][i] as number) + shift;
              return small.losses(moved.body, moved.head, data)[record] as number;
            };
            const slope = (lossAt(1e-5) - lossAt(-1e-5)) / 2e-5;
            expect(Math.abs(slope - (gradient[group][i] as number))).toBeLessThan(1e-8);
          }
        }
      }
    });
  }

  it('sum to the mean gradient over more records than one block holds', () => {
    const records = Uint32Array.from({ length: train.count + 9 }, (_, i) => i % train.count);
    const repeated = { ...train };
    const mean = { body: new Float64Array(3_120), head: new Float64Array(490) };
    const loss = oracle.meanGradient(start.body, start.head, repeated, records, mean.body, mean.head);
    const sum = { body: new Float64Array(3_120), head: new Float64Array(490), loss: 0 };
    const one = { body: new Float64Array(3_120), head: new Float64Array(490) };
    expect(records.length).toBeGreaterThan(64);
    for (const record of records) {
      sum.loss += oracle.perRecordGradient(start.body, start.head, train, record, one.body, one.head);
      for (const group of ['body', 'head'] as const) {
        one[group].forEach((v, i) => {
          sum[group][i] = (sum[group][i] as number) + v;
        });
      }
    }
    expect(loss).toBeCloseTo(sum.loss / records.length, 12);
    for (const group of ['body', 'head'] as const) {
      mean[group].forEach((v, i) => {
        expect(Math.abs(v - (sum[group][i] as number) / records.length)).toBeLessThan(1e-12);
      });
    }
  });
});

describe('server step', () => {
  it('accumulates momentum over mean directions and leaves its arguments as they are', () => {
    const server = { method: 'momentum', momentum: 0.5, step: 0.25 } as const;
    const parameters = Float32Array.of(1, 2);
    const velocity = Float64Array.of(2, 0);
    const direction = Float64Array.of(2, -1);
    const { parameters: moved, moments } = stepServer(parameters, [velocity], direction, server);
    expect(moments.map((moment) => [...moment])).toEqual([[3, -1]]);
    expect([...moved]).toEqual([0.25, 2.25]);
    expect([...parameters, ...velocity, ...direction]).toEqual([1, 2, 2, 0, 2, -1]);
    expect(() => stepServer(parameters, [velocity], Float64Array.of(1), server)).toThrow(
      /"direction" expected 2 values, got 1 with 2/,
    );
  });

  it('adapts to the size of past directions as Adam, Yogi and Adagrad do', () => {
    const [d, tau, beta] = [0.5, 1e-3, 0.9];
    const seconds = { adam: 0.99 * tau ** 2 + 0.01 * d * d, yogi: tau ** 2 + 0.01 * d * d, adagrad: tau ** 2 + d * d };
    for (const method of ['adam', 'yogi', 'adagrad'] as const) {
      const start = initialMoments(method, 1);
      const { parameters, moments } = stepServer(Float32Array.of(0), start, Float64Array.of(d), {
        method,
        momentum: beta,
        step: 0.1,
      });
      const second = seconds[method];
      expect(moments[1]?.[0]).toBeCloseTo(second, 12);
      expect(parameters[0]).toBeCloseTo((-0.1 * (1 - beta) * d) / (Math.sqrt(second) + tau), 6);
    }
    // Yogi lets a second moment that is too large fall by a constant share of the square only.
    const large = stepServer(Float32Array.of(0), [new Float64Array(1), Float64Array.of(4)], Float64Array.of(1), {
      method: 'yogi',
      momentum: 0,
      step: 1,
    });
    expect(large.moments[1]?.[0]).toBeCloseTo(3.99, 12);
  });

  it('falls linearly to a tenth and shares the denominator of heads among slots', () => {
    expect(linearStep(1.2, 0, 80)).toBe(1.2);
    expect(linearStep(1.2, 40, 80)).toBeCloseTo(0.66, 12);
    expect(linearStep(1.2, 80, 80)).toBeCloseTo(0.12, 12);
    expect(publicDenominators(0.5, 4_500, 3)).toEqual({ body: 2_250, head: 750 });
  });
});

describe('local training', () => {
  it('visits every record once an epoch, in new orders', () => {
    const epochs: number[][] = [[]];
    eachBatch(10, { epochs: 3, batchSize: 4, stepSize: 1 }, createRandom(1), (records) => {
      if (epochs.at(-1)?.length === 10) epochs.push([]);
      epochs.at(-1)?.push(...records);
      expect(records.length).toBe((epochs.at(-1)?.length ?? 0) === 10 ? 2 : 4);
    });
    expect(epochs.length).toBe(3);
    for (const epoch of epochs) expect(epoch.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(epochs[0]).not.toEqual(epochs[1]);
  });

  it('learns an organization’s own digits far above chance, the same way each time', () => {
    const options = { epochs: 60, batchSize: 32, stepSize: 0.01, weightDecay: 1e-3 };
    const model = trainLocalOnly(oracle, train, createRandom(1), options);
    expect(accuracy(oracle, model, train)).toBeGreaterThan(0.97);
    expect(accuracy(oracle, model, test)).toBeGreaterThan(0.5);
    expect(trainLocalOnly(oracle, train, createRandom(1), options)).toEqual(model);
  });

  it('takes the step of Adam with decay in the gradient', () => {
    const model = trainLocalOnly(quadratic(2), single, createRandom(4), {
      epochs: 1,
      batchSize: 1,
      stepSize: 0.5,
      weightDecay: 0,
    });
    // The first step has the size of the step in each coordinate, against the sign of the gradient.
    const { body, head } = initialModel({ tensors: [], bodyLength: 1, headLength: 1 }, createRandom(4));
    expect(model.body[0]).toBeCloseTo((body[0] as number) + 0.5, 6);
    expect(model.head[0]).toBeCloseTo((head[0] as number) - 0.5, 6);
    const decayed = trainLocalOnly(quadratic(0), single, createRandom(4), {
      epochs: 400,
      batchSize: 1,
      stepSize: 0.05,
      weightDecay: 0,
    });
    expect(Math.abs(decayed.body[0] as number)).toBeLessThan(1e-3);
  });

  it('refuses settings that train nothing', () => {
    for (const wrong of [{ epochs: -1 }, { batchSize: 0 }, { stepSize: 0 }]) {
      const options = { epochs: 1, batchSize: 1, stepSize: 1, ...wrong };
      expect(() => fineTune(oracle, start, train, createRandom(1), options)).toThrow(
        new RegExp(`"${Object.keys(wrong)[0]}"`),
      );
    }
  });
});

describe('personal models', () => {
  it('fine-tunes a copy, the whole model or the head only', () => {
    const before = copyModel(start);
    const options = { epochs: 10, batchSize: 32, stepSize: 0.1 };
    const whole = fineTune(oracle, start, train, createRandom(1), options);
    expect(start).toEqual(before);
    expect(accuracy(oracle, whole, train)).toBeGreaterThan(accuracy(oracle, start, train) + 0.3);
    const head = fineTune(oracle, start, train, createRandom(1), { ...options, part: 'head' });
    expect(head.body).toEqual(start.body);
    expect(head.head).not.toEqual(start.head);
  });

  it('moves Ditto’s personal model to the minimum of its own loss and the pull', () => {
    const released = { body: Float64Array.of(1), head: Float64Array.of(1) };
    const zero = { body: Float64Array.of(0), head: Float64Array.of(0) };
    const options = { epochs: 1, batchSize: 1, stepSize: 0.1, lambda: 3 };
    // grad = v - 5 = -5, pull = 3 (v - 1) = -3: one step from 0 is 0.8; the head's target is -5.
    const once = stepDitto(quadratic(5), released, zero, single, createRandom(1), options);
    expect(once.body[0]).toBeCloseTo(0.8, 12);
    expect(once.head[0]).toBeCloseTo(-0.2, 12);
    // Fixed point (target + lambda w) / (1 + lambda).
    const fixed = stepDitto(quadratic(5), released, zero, single, createRandom(1), { ...options, epochs: 200 });
    expect(fixed.body[0]).toBeCloseTo((5 + 3) / 4, 10);
    expect(fixed.head[0]).toBeCloseTo((-5 + 3) / 4, 10);
    expect([zero.body[0], released.body[0]]).toEqual([0, 1]);
    expect(() => stepDitto(oracle, start, start, train, createRandom(1), { ...options, lambda: 11 })).toThrow(
      /"lambda"/,
    );
  });
});

describe('evaluation', () => {
  it('summarizes mean, weighted mean, spread and the worst', () => {
    const summary = summarizeAccuracies([0.5, 0.9, 0.7, 0.9], [1, 1, 1, 5]);
    expect(summary.mean).toBeCloseTo(0.75, 12);
    expect(summary.weightedMean).toBeCloseTo((0.5 + 0.9 + 0.7 + 4.5) / 8, 12);
    expect(summary.stddev).toBeCloseTo(Math.sqrt((0.0625 + 0.0225 + 0.0025 + 0.0225) / 4), 12);
    expect([summary.worst, summary.worstTenth]).toEqual([0.5, 0.5]);
    const many = Array.from({ length: 30 }, (_, i) => (29 - i) / 30);
    expect(summarizeAccuracies(many).worstTenth).toBeCloseTo((0 + 1 + 2) / 90, 12);
    expect(() => summarizeAccuracies([])).toThrow(/"accuracies"/);
  });

  it('is not fooled by one class when balanced', () => {
    const oneClass: GradientOracle = {
      ...quadratic(0),
      predict: (_body, _head, data) => new Uint8Array(data.count).fill(1),
    };
    const data = createDataset(1, 3, new Float32Array(10), Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1, 0));
    const model = { body: new Float64Array(1), head: new Float64Array(1) };
    expect(accuracy(oneClass, model, data)).toBe(0.9);
    expect(balancedAccuracy(oneClass, model, data)).toBe(0.5);
  });
});
