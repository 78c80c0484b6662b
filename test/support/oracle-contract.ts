import { beforeAll, describe, expect, it } from 'vitest';
import { isCoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset } from '../../src/data/dataset.ts';
import type { GradientOracle, Model } from '../../src/learning/oracle.ts';
import { sampleData, sampleModel } from './learning-samples.ts';

export interface Gradient {
  readonly loss: number;
  readonly body: Float64Array;
  readonly head: Float64Array;
}

function empty(oracle: GradientOracle): { body: Float64Array; head: Float64Array } {
  // Left-overs of earlier calls must not show.
  return {
    body: new Float64Array(oracle.manifest.bodyLength).fill(7),
    head: new Float64Array(oracle.manifest.headLength).fill(7),
  };
}

export function gradientOf(oracle: GradientOracle, model: Model, data: Dataset, record: number): Gradient {
  const { body, head } = empty(oracle);
  return { loss: oracle.perRecordGradient(model.body, model.head, data, record, body, head), body, head };
}

export function meanGradientOf(oracle: GradientOracle, model: Model, data: Dataset, records: Uint32Array): Gradient {
  const { body, head } = empty(oracle);
  return { loss: oracle.meanGradient(model.body, model.head, data, records, body, head), body, head };
}

export function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

export function difference(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value - (b[i] as number));
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

export function expectClose(actual: Gradient, expected: Gradient, tolerance: number): void {
  expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(tolerance * (1 + expected.loss));
  for (const group of ['body', 'head'] as const) {
    if (expected[group].length === 0) continue;
    expect(norm(expected[group])).toBeGreaterThan(0);
    expect(norm(difference(actual[group], expected[group])) / norm(expected[group])).toBeLessThan(tolerance);
  }
}

function move(model: Model, direction: Model, step: number): Model {
  return {
    body: model.body.map((value, i) => value + step * (direction.body[i] as number)),
    head: model.head.map((value, i) => value + step * (direction.head[i] as number)),
  };
}

export interface OracleSubject {
  readonly oracle: GradientOracle;
  readonly featureLength: number;
  /** Maps uniform draws from [-1, 1) to features. */
  readonly toFeature?: ((value: number) => number) | undefined;
  /** Relative accuracy of gradients, of finite differences, and the step of the latter. */
  readonly accuracy: { readonly gradient: number; readonly derivative: number; readonly step: number };
}

/** What every gradient oracle must do, whatever computes. */
export function describeOracle(name: string, make: () => Promise<OracleSubject>): void {
  describe(name, () => {
    let subject: OracleSubject;
    let oracle: GradientOracle;
    let data: Dataset;
    let model: Model;

    beforeAll(async () => {
      subject = await make();
      oracle = subject.oracle;
      data = sampleData(oracle, subject.featureLength, 12, 100, subject.toFeature);
      model = sampleModel(oracle, 200);
    });

    it('agrees with finite differences in random directions', () => {
      const { step, derivative } = subject.accuracy;
      for (let record = 0; record < 4; record++) {
        const { body, head } = gradientOf(oracle, model, data, record);
        for (const group of ['body', 'head'] as const) {
          const random = sampleModel(oracle, 300 + record);
          const direction = {
            body: group === 'body' ? random.body : new Float64Array(random.body.length),
            head: group === 'head' ? random.head : new Float64Array(random.head.length),
          };
          const at = (sign: number): number =>
            oracle.losses(...models(move(model, direction, sign * step)), data)[record] as number;
          const slope = (at(1) - at(-1)) / (2 * step);
          const expected = group === 'body' ? dot(body, direction.body) : dot(head, direction.head);
          const gradientNorm = group === 'body' ? norm(body) : norm(head);
          expect(gradientNorm).toBeGreaterThan(0);
          expect(Math.abs(slope - expected)).toBeLessThan(derivative * gradientNorm * norm(direction[group]));
        }
      }
    });

    it('reports the loss of each record as in the list of losses, and predicts the class of least loss', () => {
      const losses = oracle.losses(model.body, model.head, data);
      const predictions = oracle.predict(model.body, model.head, data);
      const everyClass = Array.from({ length: data.classes }, (_, label) =>
        oracle.losses(model.body, model.head, { ...data, labels: data.labels.map(() => label) }),
      );
      for (let record = 0; record < data.count; record++) {
        expect(Math.abs(gradientOf(oracle, model, data, record).loss - (losses[record] as number))).toBeLessThan(1e-5);
        const byClass = everyClass.map((values) => values[record] as number);
        expect(byClass.indexOf(Math.min(...byClass))).toBe(predictions[record]);
        // Softmax sums to one.
        expect(Math.abs(byClass.reduce((sum, loss) => sum + Math.exp(-loss), 0) - 1)).toBeLessThan(1e-5);
      }
      const other = Array.from({ length: 8 }, (_, i) =>
        Array.from(oracle.predict(...models(sampleModel(oracle, 10 * i)), data)),
      );
      expect(new Set(other.flat()).size).toBe(data.classes);
    });

    it('averages the gradients of records, also of repeated ones', () => {
      const records = Uint32Array.of(3, 1, 4, 1, 5, 9, 2, 6);
      const sum = { loss: 0, body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
      for (const record of records) {
        const { loss, body, head } = gradientOf(oracle, model, data, record);
        sum.loss += loss / records.length;
        for (const [target, source] of [
          [sum.body, body],
          [sum.head, head],
        ] as const) {
          source.forEach((value, i) => {
            target[i] = (target[i] as number) + value / records.length;
          });
        }
      }
      expectClose(meanGradientOf(oracle, model, data, records), sum, subject.accuracy.gradient);
      const none = meanGradientOf(oracle, model, data, new Uint32Array(0));
      expect(none.loss).toBe(0);
      expect(norm(none.body) + norm(none.head)).toBe(0);
    });

    it('gives a record the same bits whatever the other records are and whatever was computed before', () => {
      const alone = gradientOf(oracle, model, data, 5);
      const others = Float32Array.from(data.features, (value, i) =>
        Math.floor(i / data.featureLength) === 5 ? value : -3 * value,
      );
      const replaced: Dataset = {
        ...data,
        features: others,
        labels: data.labels.map((label, r) => (r === 5 ? label : (label + 1) % data.classes)),
      };
      meanGradientOf(oracle, model, replaced, Uint32Array.of(0, 1, 2));
      gradientOf(oracle, sampleModel(oracle, 999), replaced, 7);
      expect(gradientOf(oracle, model, replaced, 5)).toEqual(alone);
    });

    it('gives a record the same loss whoever is beside it: at unit record slots are chosen by losses', () => {
      const { body, head } = model;
      const { classes, count, featureLength, features, labels } = data;
      const all = oracle.losses(body, head, data);
      for (let from = 0; from < count; from++)
        for (const to of new Set([from + 1, count - 1, count])) {
          if (to <= from) continue;
          const cut = features.slice(from * featureLength, to * featureLength);
          const some = createDataset(featureLength, classes, cut, labels.slice(from, to));
          expect(oracle.losses(body, head, some)).toEqual(all.slice(from, to));
        }
    });

    it('leaves models and data as they were', () => {
      const before = structuredClone({ model, data });
      gradientOf(oracle, model, data, 0);
      meanGradientOf(oracle, model, data, Uint32Array.of(0, 1));
      oracle.losses(model.body, model.head, data);
      oracle.predict(model.body, model.head, data);
      expect({ model, data }).toEqual(before);
    });

    it('survives parameters that overflow', () => {
      const huge = { body: model.body.map((value) => value * 1e300), head: model.head.map((value) => value * 1e300) };
      const { body, head } = gradientOf(oracle, huge, data, 0);
      expect([body.length, head.length]).toEqual([model.body.length, model.head.length]);
    });

    it('refuses models and data of another shape', () => {
      const refused = (run: () => unknown): boolean => {
        try {
          run();
          return false;
        } catch (error) {
          return isCoveyError(error, 'USAGE_RANGE');
        }
      };
      const { body, head } = empty(oracle);
      expect(refused(() => oracle.perRecordGradient(model.head, model.body, data, 0, body, head))).toBe(true);
      expect(refused(() => oracle.losses(model.body.subarray(1), model.head, data))).toBe(true);
      const short = createDataset(
        data.featureLength - 1,
        data.classes,
        new Float32Array(data.featureLength - 1),
        Uint8Array.of(0),
      );
      expect(refused(() => oracle.predict(model.body, model.head, short))).toBe(true);
    });
  });
}

export function models(model: Model): [Float64Array, Float64Array] {
  return [model.body, model.head];
}
