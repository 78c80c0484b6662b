import { describe, expect, it } from 'vitest';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import {
  type Algorithm,
  type LocalContext,
  type LocalVectors,
  optionsOf,
  type ReleasedModels,
  type StepFacts,
} from '../src/learning/algorithm.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { initialModel } from '../src/learning/initial-model.ts';
import { createManifest } from '../src/learning/manifest.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { findAlgorithm } from '../src/learning/registry.ts';

/*
 * f1(x) = (x - 1)^2 / 2 and f2(x) = 2 (x + 1)^2, ten local steps of 0.1: every method has a fixed point of its own, and only
 * control variates reach the optimum -0.6 of the sum.
 */

const manifest = createManifest([{ name: 'x', shape: [1], group: 'head' }]);
/** A record is a curvature and a minimum. */
const quadratic = (curvature: number, minimum: number): Dataset =>
  createDataset(2, 1, Float32Array.of(curvature, minimum), new Uint8Array(1));

const oracle: GradientOracle = {
  manifest,
  perRecordGradient: () => Number.NaN,
  meanGradient(_body, head, data, _records, _bodyGradient, headGradient) {
    const [curvature = 0, minimum = 0] = data.features;
    const away = (head[0] as number) - minimum;
    headGradient[0] = curvature * away;
    return (curvature * away * away) / 2;
  },
  losses: (_body, head, data) => {
    const [curvature = 0, minimum = 0] = data.features;
    return Float64Array.of((curvature * ((head[0] as number) - minimum) ** 2) / 2);
  },
  predict: () => new Uint8Array(1),
};

const participants = [quadratic(1, 1), quadratic(4, -1)];
const epochs = { epochs: 10, batches: 10, batchSize: 1, stepSize: 0.1 };

/** The released x after many rounds without clip and noise. */
function federate(algorithm: Algorithm, given: Readonly<Record<string, number>>, rounds = 400): number {
  const options = optionsOf(algorithm.info, given);
  const lengths = algorithm.extra?.(manifest, options).released ?? [];
  let released: ReleasedModels = {
    body: new Float32Array(0),
    heads: [new Float32Array(1)],
    extra: lengths.map((length) => new Float32Array(length)),
  };
  let x = 0;
  const locals: LocalVectors[] = participants.map(() => ({}));
  for (let step = 0; step < rounds; step++) {
    const sent = participants.map((data, i) => {
      const context: LocalContext = {
        oracle,
        data,
        start: { body: new Float64Array(0), head: Float64Array.of(x) },
        released,
        weights: Float64Array.of(1),
        local: locals[i] ?? {},
        options,
        epochs,
        personal: epochs,
        clippingNorm: 1e9,
        step,
        steps: rounds,
        random: createRandom(1, i),
      };
      const update = algorithm.update?.(context);
      if (update === undefined) throw new Error('nothing was sent');
      locals[i] = update.local ?? {};
      return update;
    });
    const sum = sent.reduce((total, { head }) => total + (head[0] as number), 0);
    const blocks = algorithm.extra?.(manifest, options).blocks ?? [];
    const extra = blocks.map((_, j) => Float64Array.of(sent.reduce((total, u) => total + (u.extra?.[j]?.[0] ?? 0), 0)));
    const facts: StepFacts = {
      manifest,
      released,
      survivors: participants.length,
      participants: participants.length,
      denominators: { body: participants.length, head: participants.length },
      options,
      epochs,
      clippingNorm: 1,
    };
    const sums = { body: new Float64Array(0), heads: [Float64Array.of(sum)], extra };
    const directions = algorithm.server?.(sums, facts) ?? {
      body: sums.body,
      heads: [Float64Array.of(sum / participants.length)],
      extra: released.extra,
    };
    x -= directions.heads[0]?.[0] ?? 0;
    released = { ...released, heads: [Float32Array.of(x)], extra: directions.extra };
  }
  return x;
}

describe('fixed points on two quadratics', () => {
  for (const [id, options, fixed, digits] of [
    ['fedavg', {}, -0.208_252_02, 7],
    ['fedprox', { mu: 1 }, -0.283_34, 5],
    // Control variates are broadcast in single precision.
    ['scaffold', {}, -0.6, 6],
    ['scaffold', { option: 1 }, -0.6, 6],
  ] as const) {
    it(`${id} ${JSON.stringify(options)} ends at ${fixed}`, () => {
      expect(federate(findAlgorithm(id), options)).toBeCloseTo(fixed, digits);
    });
  }

  it('q-FedAvg with q = 0 is FedAvg, and with a larger q evens the losses out', () => {
    const qFedAvg = findAlgorithm('q-fedavg');
    expect(federate(qFedAvg, { q: 0 })).toBeCloseTo(-0.208_252_02, 7);
    const lossesAt = (x: number): number[] => [(x - 1) ** 2 / 2, 2 * (x + 1) ** 2];
    const gap = (x: number): number => Math.abs((lossesAt(x)[0] as number) - (lossesAt(x)[1] as number));
    expect(gap(federate(qFedAvg, { q: 2 }, 2_000))).toBeLessThan(gap(federate(qFedAvg, { q: 0 })));
  });

  it('Reptile moves as FedAvg does; the meta-gradients of MAML are those of the composed loss', () => {
    expect(federate(findAlgorithm('reptile'), {})).toBeCloseTo(-0.208_252_02, 7);
    // For f(x - alpha f'(x)) with f quadratic of curvature a: a (1 - alpha a)^2 (x - m) with the Hessian, one factor without.
    const [alpha, eta] = [0.05, 0.1];
    const end = (power: number): number => {
      let x = 0;
      for (let round = 0; round < 400; round++) {
        const ends = (
          [
            [1, 1],
            [4, -1],
          ] as const
        ).map(([a, m]) => m + (x - m) * (1 - eta * a * (1 - alpha * a) ** power) ** 10);
        x = ((ends[0] as number) + (ends[1] as number)) / 2;
      }
      return x;
    };
    expect(federate(findAlgorithm('per-fedavg'), { alpha, hessianFree: 0 })).toBeCloseTo(end(1), 6);
    expect(federate(findAlgorithm('per-fedavg'), { alpha, hessianFree: 1 })).toBeCloseTo(end(2), 6);
  });
});

describe('episodes of prototypes', () => {
  it('descend the loss of their own definition: the update is its numerical gradient', () => {
    const model = createDenseOracle({ inputs: 3, hidden: [4, 3], classes: 3 });
    const random = createRandom(5);
    const features = Float32Array.from({ length: 36 }, () => random.uniform(-1, 1));
    const labels = Uint8Array.from({ length: 12 }, (_, i) => i % 3);
    const data = createDataset(3, 3, features, labels);
    const start = initialModel(model.manifest, createRandom(8));
    const once = { epochs: 1, batches: 1, batchSize: 12, stepSize: 1e-4 };
    const context: LocalContext = {
      oracle: model,
      data,
      start,
      released: { body: Float32Array.from(start.body), heads: [Float32Array.from(start.head)], extra: [] },
      weights: Float64Array.of(1),
      local: {},
      options: { margin: 0.5 },
      epochs: once,
      personal: once,
      clippingNorm: 1,
      step: 0,
      steps: 1,
      random: createRandom(2),
    };
    const sent = findAlgorithm('metavers').update?.(context);
    const order = Uint32Array.from({ length: 12 }, (_, i) => i);
    createRandom(2).shuffle(order);
    const [support, query] = [order.subarray(0, 6), order.subarray(6)];
    const loss = (body: Float64Array): number => {
      const of = (record: number): Float64Array =>
        model.extractor?.features(body, data, Uint32Array.of(record)) ?? new Float64Array(0);
      const classes = [0, 1, 2].flatMap((label) => {
        const rows = [...support].filter((record) => labels[record] === label).map(of);
        return rows.length === 0
          ? []
          : [{ label, mean: [0, 1, 2].map((k) => rows.reduce((s, r) => s + (r[k] as number), 0) / rows.length) }];
      });
      const known = [...query].filter((record) => classes.some(({ label }) => label === labels[record]));
      const losses = known.map((record) => {
        const f = of(record);
        const logits = classes.map(
          ({ label, mean }) =>
            -mean.reduce((s, m, k) => s + ((f[k] as number) - m) ** 2, 0) - (label === labels[record] ? 0.5 : 0),
        );
        const own = logits[classes.findIndex(({ label }) => label === labels[record])] as number;
        return Math.log(logits.reduce((s, logit) => s + Math.exp(logit), 0)) - own;
      });
      return losses.reduce((s, l) => s + l, 0) / losses.length;
    };
    expect(sent?.body.some((value) => value !== 0)).toBe(true);
    start.body.forEach((value, i) => {
      const at = (shift: number): number => loss(start.body.map((w, j) => (i === j ? value + shift : w)));
      expect((sent?.body[i] as number) / once.stepSize).toBeCloseTo((at(1e-5) - at(-1e-5)) / 2e-5, 5);
    });
  });
});
