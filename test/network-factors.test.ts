import { beforeAll, describe, expect, it } from 'vitest';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import type { Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { ACTIVATIONS, count } from '../src/learning/layer-sizes.ts';
import { createManifest } from '../src/learning/manifest.ts';
import { layoutNetwork, type NetworkSpec } from '../src/learning/network.ts';
import { createNetworkFactors, gradientsByPasses } from '../src/learning/network-factors.ts';
import type { Model } from '../src/learning/oracle.ts';
import { eachUnitGradient } from '../src/learning/unit-gradient.ts';
import { codeOf } from './support/code-of.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { embedding, NETWORKS, toWord } from './support/networks.ts';
import { difference, expectClose, type Gradient, meanGradientOf, norm } from './support/oracle-contract.ts';
import { randomNetwork } from './support/random-networks.ts';

let runtime: TensorRuntime;

beforeAll(async () => {
  runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
});

interface Subject {
  readonly name: string;
  readonly spec: NetworkSpec;
  readonly model: Model;
  readonly data: Dataset;
}

function subjectOf(
  name: string,
  spec: NetworkSpec,
  seed: number,
  records: number,
  toFeature?: (value: number) => number,
): Subject {
  const manifest = createManifest(layoutNetwork(spec).tensors);
  const data = sampleData({ manifest }, count(spec.inputShape), records, seed, toFeature);
  return { name, spec, model: sampleModel({ manifest }, seed + 50), data };
}

const drawn = Array.from({ length: 40 }, (_, i) => randomNetwork(createRandom(i, 1)));
/** Padded windows that leave out rows and columns. */
const sparse: NetworkSpec = {
  inputShape: [6, 8, 2],
  layers: [
    { kind: 'conv2d', filters: 3, kernelSize: [3, 1], stride: 2, padding: 'same', activation: 'relu' },
    { kind: 'depthwiseConv2d', multiplier: 2, kernelSize: 1, stride: [3, 2], padding: 'same', activation: 'tanh' },
    { kind: 'flatten' },
    { kind: 'dense', units: 3, activation: 'linear' },
  ],
};
const subjects = [
  subjectOf('strides beyond the kernels', sparse, 4, 8),
  ...NETWORKS.map(({ name, spec, toFeature }) => subjectOf(name, spec, 4, 70, toFeature)),
  ...drawn.map(({ entries, spec }, i) => {
    const toEntry = (value: number): number => Math.floor(((value + 1) / 2) * (entries ?? 0));
    return subjectOf(`random network ${i}`, spec, i, 8, entries === null ? undefined : toEntry);
  }),
];
const image = subjects[2] ?? expect.fail('no network');

/** Gradients of records in one call, each with its loss. */
function gradientsOf({ spec, model, data }: Omit<Subject, 'name'>, records: readonly number[]): Gradient[] {
  const factors = createNetworkFactors(spec);
  const body = new Float64Array(model.body.length).fill(7);
  const head = new Float64Array(model.head.length).fill(7);
  const all: Gradient[] = [];
  gradientsByPasses(factors).recordGradients(
    model.body,
    model.head,
    data,
    Uint32Array.from(records),
    body,
    head,
    (index, loss) => {
      expect(index).toBe(all.length);
      all.push({ loss, body: body.slice(), head: head.slice() });
    },
  );
  return all;
}

const move = (values: Float64Array, direction: Float64Array, step: number): Float64Array =>
  values.map((value, i) => value + step * (direction[i] as number));

describe('gradients of single records by passes over many', () => {
  it('are drawn with every kind of layer, activation and padding, with biases and without', () => {
    const layers = subjects.flatMap(({ spec }) => spec.layers);
    expect(new Set(layers.map(({ kind }) => kind)).size).toBe(10);
    for (const kind of ['conv2d', 'depthwiseConv2d', 'dense'] as const) {
      const own = layers.flatMap((layer) => (layer.kind === kind ? [layer] : []));
      for (const activation of ACTIVATIONS) expect(own.some((layer) => layer.activation === activation)).toBe(true);
      expect(new Set(own.map(({ bias }) => bias !== false)).size).toBe(2);
    }
    for (const kind of ['conv2d', 'depthwiseConv2d', 'maxPool', 'averagePool'] as const)
      expect(new Set(layers.flatMap((layer) => (layer.kind === kind ? [layer.padding] : []))).size).toBe(2);
  });

  it.each(subjects)('agree with the engine, one record at a time: $name', ({ spec, model, data }) => {
    const oracle = createTfjsOracle(runtime, spec);
    const records = [0, 3, 7];
    gradientsOf({ spec, model, data }, records).forEach((gradient, i) => {
      const expected = meanGradientOf(oracle, model, data, Uint32Array.of(records[i] as number));
      expect(Math.abs(gradient.loss - expected.loss)).toBeLessThan(1e-5 * (1 + expected.loss));
      // Units that are all off leave a body without a gradient.
      for (const group of ['body', 'head'] as const)
        expect(norm(difference(gradient[group], expected[group]))).toBeLessThan(1e-5 + 1e-4 * norm(expected[group]));
    });
  });

  it.each(subjects)('agree with finite differences of the losses: $name', ({ spec, model, data }) => {
    const factors = createNetworkFactors(spec);
    const manifest = createManifest(layoutNetwork(spec).tensors);
    const direction = sampleModel({ manifest }, 300);
    const step = 1e-7;
    const [up, down] = [step, -step].map((by) =>
      factors.losses(move(model.body, direction.body, by), move(model.head, direction.head, by), data),
    ) as [Float64Array, Float64Array];
    const losses = factors.losses(model.body, model.head, data);
    gradientsOf({ spec, model, data }, [0, 1, 2, 3, 4, 5]).forEach(({ loss, body, head }, record) => {
      expect(loss).toBe(losses[record]);
      const slope = ((up[record] as number) - (down[record] as number)) / (2 * step);
      const expected =
        body.reduce((sum, v, i) => sum + v * (direction.body[i] as number), 0) +
        head.reduce((sum, v, i) => sum + v * (direction.head[i] as number), 0);
      expect(Math.abs(slope - expected)).toBeLessThan(1e-5 * (1 + Math.abs(expected)));
    });
  });

  it.each(subjects)('have the same bits alone, among any others, and in any place: $name', (subject) => {
    const { data } = subject;
    const kept = 5;
    const [alone] = gradientsOf(subject, [kept]);
    const others = (change: (value: number) => number): Dataset => ({
      ...data,
      features: data.features.map((v, i) => (Math.floor(i / data.featureLength) === kept ? v : change(v))),
    });
    // What breaks other records: not a number, far beyond the table of an embedding, and sums that overflow.
    const sets = [data, ...[() => Number.NaN, (v: number) => v * 1e38, () => 0].map(others)];
    for (const set of sets)
      for (const [before, after] of [
        [0, 1],
        [1, 0],
        [2, 4],
        [63, 6],
      ] as const) {
        const fill = (length: number): number[] =>
          Array.from({ length }, (_, i) => (kept + 1 + (i % (data.count - 1))) % data.count);
        const rows = gradientsOf({ ...subject, data: set }, [...fill(before), kept, ...fill(after)]);
        expect(rows.length).toBe(before + 1 + after);
        expect(rows[before]).toEqual(alone);
      }
    // Other records do change their own rows.
    const [first, second] = [data, others((v) => -v)].map(
      (set) => gradientsOf({ ...subject, data: set }, [kept, 6])[1],
    );
    if (subject.name === image.name) expect(second).not.toEqual(first);
  });

  it('are sums over the records of a person, and zeros of one without records', () => {
    const { spec, model, data } = image;
    const factors = createNetworkFactors(spec);
    const oracle = { ...createTfjsOracle(runtime, spec), ...gradientsByPasses(factors), factors };
    const { recordGradients: _passes, ...single } = oracle;
    const persons = [[], [3, 1], [], [2], Array.from({ length: 66 }, (_, i) => i), []];
    const [batched, alone] = [oracle, single].map((engine) => {
      const term = { body: new Float64Array(model.body.length), head: new Float64Array(model.head.length) };
      const all: (Gradient & { readonly unit: number })[] = [];
      eachUnitGradient(engine, data, model, persons, term, (unit, loss) => {
        all.push({ unit, loss, body: term.body.slice(), head: term.head.slice() });
      });
      return all;
    });
    expect(batched).toEqual(alone);
    expect(batched?.map(({ unit }) => unit)).toEqual([0, 1, 2, 3, 4, 5]);
    for (const unit of [0, 2, 5]) expect(norm(batched?.[unit]?.body ?? expect.fail())).toBe(0);
    const [three, one] = gradientsOf(image, [3, 1]) as [Gradient, Gradient];
    const sum = {
      loss: three.loss + one.loss,
      body: move(three.body, one.body, 1),
      head: move(three.head, one.head, 1),
    };
    expect(batched?.[1]).toEqual({ unit: 1, ...sum });
  });

  it.each([
    [
      [61, 67, 3],
      [9, 8],
    ],
    // Windows of a single row are more than a strip.
    [
      [1, 900, 4],
      [1, 300],
    ],
  ] as const)(
    'are cut in strips where the windows of an image are many, with nothing lost between them: %j',
    (inputShape, kernelSize) => {
      const spec: NetworkSpec = {
        inputShape,
        layers: [
          { kind: 'conv2d', filters: 2, kernelSize, stride: 1, padding: 'same', activation: 'tanh' },
          { kind: 'globalPool', mode: 'average' },
          { kind: 'dense', units: 3, activation: 'linear' },
        ],
      };
      const { model, data } = subjectOf('large', spec, 9, 2);
      const [gradient] = gradientsOf({ spec, model, data }, [1]);
      const oracle = createTfjsOracle(runtime, spec);
      expectClose(gradient ?? expect.fail(), meanGradientOf(oracle, model, data, Uint32Array.of(1)), 1e-4);
    },
  );

  it('are not a number for a record whose words are not in the table, in every layer', () => {
    const { model, data } = subjectOf('words', embedding, 3, 6, toWord);
    for (const word of [9, -1, 0.5, Number.NaN, 4e9]) {
      const broken = { ...data, features: data.features.map((value, i) => (i === 14 ? word : value)) };
      const [own] = gradientsOf({ spec: embedding, model, data: broken }, [1]);
      expect([own?.loss, ...(own?.body ?? []), ...(own?.head ?? [])].every(Number.isNaN)).toBe(true);
    }
  });

  it('are refused for models and records of another shape, and for more records than a pass takes', () => {
    const { spec, model, data } = image;
    const { mostRecords, pass } = createNetworkFactors(spec);
    const code = (...args: Parameters<typeof pass>): string | null => codeOf(() => pass(...args));
    expect(code(model.body, model.head, data, new Uint32Array(mostRecords))).toBeNull();
    expect(code(model.body, model.head, data, new Uint32Array(mostRecords + 1))).toBe('USAGE_RANGE');
    expect(code(model.head, model.body, data, Uint32Array.of(0))).toBe('USAGE_RANGE');
    expect(code(model.body, model.head, data, Uint32Array.of(70))).toBe('USAGE_RANGE');
    expect(code(model.body, model.head, { ...data, featureLength: 64 }, Uint32Array.of(0))).toBe('USAGE_RANGE');
    expect(code(model.body, model.head, { ...data, classes: 9 }, Uint32Array.of(0))).toBe('USAGE_RANGE');
    // A record of four million values is a pass of its own.
    const large = {
      ...spec,
      layers: [{ kind: 'dense', units: 3, activation: 'linear' }],
      inputShape: [2 ** 22],
    } as const;
    expect(createNetworkFactors({ ...large, sharedLayers: 0 }).mostRecords).toBe(1);
  });
});
