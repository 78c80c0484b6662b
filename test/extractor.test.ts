import { describe, expect, it } from 'vitest';
import { createNetwork } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import type { Dataset } from '../src/data/dataset.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { FeatureExtractor } from '../src/learning/oracle.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { NETWORKS } from './support/networks.ts';
import { sampleValues } from './tensor-samples.ts';

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
};

function gradientOf(
  extractor: FeatureExtractor,
  body: Float64Array,
  data: Dataset,
  records: Uint32Array,
  errors: Float64Array,
) {
  const gradient = new Float64Array(body.length).fill(3);
  extractor.gradient(body, data, records, errors, gradient);
  return gradient;
}

const runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });

describe('feature extractors of the tensor engine', () => {
  it.each(NETWORKS)('have the slope of their features: $name', ({ spec, toFeature }) => {
    const oracle = createTfjsOracle(runtime, spec);
    const { extractor } = oracle;
    if (extractor === undefined) throw new Error('no extractor');
    const inputs = spec.inputShape.reduce((product, size) => product * size, 1);
    const data = sampleData(oracle, inputs, 6, 40, toFeature);
    const { body } = sampleModel(oracle, 3);
    const records = Uint32Array.of(4, 1, 1);
    const { featureLength } = extractor;
    expect(featureLength).toBe(createNetwork(spec).featureLength);
    const errors = Float64Array.from(sampleValues(3 * featureLength, 8));
    const gradient = gradientOf(extractor, body, data, records, errors);
    for (let trial = 0; trial < 3; trial++) {
      const direction = sampleModel(oracle, 50 + trial).body;
      const step = 1e-3;
      const at = (sign: number): number =>
        dot(
          extractor.features(
            body.map((value, i) => value + sign * step * (direction[i] as number)),
            data,
            records,
          ),
          errors,
        );
      const slope = (at(1) - at(-1)) / (2 * step);
      const scale = Math.sqrt(dot(gradient, gradient) * dot(direction, direction));
      expect(scale).toBeGreaterThan(0);
      expect(Math.abs(slope - dot(gradient, direction))).toBeLessThan(1e-2 * scale);
    }
    // Rows stand for themselves.
    const rows = extractor.features(body, data, records);
    expect(rows.subarray(featureLength, 2 * featureLength)).toEqual(rows.subarray(2 * featureLength));
  });

  it('are those of the dense oracle for a perceptron', () => {
    const dense = createDenseOracle({ inputs: 11, hidden: [9, 6], classes: 4 });
    const tensors = createTfjsOracle(runtime, (NETWORKS[0] as (typeof NETWORKS)[number]).spec);
    const data = sampleData(dense, 11, 300, 2);
    const { body } = sampleModel(dense, 1);
    const records = Uint32Array.from({ length: 300 }, (_, i) => i);
    const [own, others] = [dense.extractor, tensors.extractor];
    if (own === undefined || others === undefined) throw new Error('no extractor');
    const errors = Float64Array.from(sampleValues(300 * 6, 8));
    for (const [a, b] of [
      [own.features(body, data, records), others.features(body, data, records)],
      [gradientOf(own, body, data, records, errors), gradientOf(others, body, data, records, errors)],
    ] as const)
      a.forEach((value, i) => {
        expect(Math.abs(value - (b[i] as number))).toBeLessThan(1e-3);
      });
  });

  it('are not a number for a record that the table of embeddings does not hold, and for this one alone', () => {
    const { spec, toFeature } = NETWORKS.find(({ name }) => name === 'embeddings') as (typeof NETWORKS)[number];
    const oracle = createTfjsOracle(runtime, spec);
    const { extractor } = oracle;
    if (extractor === undefined) throw new Error('no extractor');
    const data = sampleData(oracle, 12, 3, 40, toFeature);
    const { body } = sampleModel(oracle, 3);
    data.features[12] = 9;
    const features = extractor.features(body, data, Uint32Array.of(0, 1, 2));
    const broken = Array.from({ length: 3 }, (_, row) =>
      features.subarray(row * extractor.featureLength, (row + 1) * extractor.featureLength).some(Number.isNaN),
    );
    expect(broken).toEqual([false, true, false]);
    const errors = new Float64Array(2 * extractor.featureLength).fill(1);
    expect(gradientOf(extractor, body, data, Uint32Array.of(0, 1), errors).every(Number.isNaN)).toBe(true);
    expect(gradientOf(extractor, body, data, Uint32Array.of(0, 2), errors).some(Number.isNaN)).toBe(false);
  });
});
