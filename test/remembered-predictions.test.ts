import { expect, it } from 'vitest';
import { rememberPredictions } from '../experiments/remembered-predictions.ts';
import { createDataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { copyModel, type Model } from '../src/learning/oracle.ts';

it('predicts once for a model and a set of records, and what the oracle predicts', () => {
  const random = createRandom(3);
  const oracle = createDenseOracle({ inputs: 4, hidden: [3], classes: 5 });
  const records = () =>
    createDataset(
      4,
      5,
      Float32Array.from({ length: 80 }, () => random.uniform(-1, 1)),
      new Uint8Array(20),
    );
  const drawn = (length: number): Float64Array => Float64Array.from({ length }, () => random.uniform(-2, 2));
  const model = (): Model => ({ body: drawn(oracle.manifest.bodyLength), head: drawn(oracle.manifest.headLength) });
  let calls = 0;
  const judge = rememberPredictions({
    ...oracle,
    predict(body, head, data) {
      calls += 1;
      return oracle.predict(body, head, data);
    },
  });
  const [one, other, shared, own] = [model(), model(), records(), records()];
  const body = { body: one.body, head: other.head };
  const head = { body: other.body, head: one.head };
  for (const given of [one, copyModel(one), other, body, head, one, copyModel(other)])
    for (const data of [shared, own])
      expect(judge.predict(given.body, given.head, data)).toEqual(oracle.predict(given.body, given.head, data));
  expect(calls).toBe(8);
});
