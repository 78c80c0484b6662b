import { describe, expect, it } from 'vitest';
import { findScenario } from '../../experiments/scenarios/registry.ts';
import type { Dataset, SplitData } from '../../src/data/dataset.ts';
import { createRandom, type DataRandom } from '../../src/data/random.ts';
import { DATA_FOLDER, hasData, NEEDS_DATA } from '../support/data-folder.ts';

// Softmax regression of a few lines, so that these numbers judge the data and nothing else.

/** Scores of a record, then softmax in place. Shapes: `w` (inputs + 1) x classes, the last row the bias. */
function probabilities(w: Float64Array, data: Dataset, record: number, p: Float64Array): void {
  const { featureLength: d, classes, features } = data;
  for (let c = 0; c < classes; c++) p[c] = w[d * classes + c] as number;
  for (let j = 0; j < d; j++) {
    const x = features[record * d + j] as number;
    if (x !== 0) for (let c = 0; c < classes; c++) p[c] = (p[c] as number) + x * (w[j * classes + c] as number);
  }
  const highest = Math.max(...p);
  let total = 0;
  for (let c = 0; c < classes; c++) {
    p[c] = Math.exp((p[c] as number) - highest);
    total += p[c] as number;
  }
  for (let c = 0; c < classes; c++) p[c] = (p[c] as number) / total;
}

function accuracyOf(w: Float64Array, data: Dataset): number {
  const p = new Float64Array(data.classes);
  let right = 0;
  for (let i = 0; i < data.count; i++) {
    probabilities(w, data, i, p);
    if (p.indexOf(Math.max(...p)) === data.labels[i]) right++;
  }
  return right / data.count;
}

/** SGD in place: batches through shuffled epochs until `steps` are done. */
function train(w: Float64Array, data: Dataset, random: DataRandom, batch: number, steps: number, rate: number): void {
  const { featureLength: d, classes, features, labels, count } = data;
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const p = new Float64Array(classes);
  const gradient = new Float64Array(w.length);
  let at = count;
  for (let step = 0; step < steps; step++) {
    if (at >= count) {
      random.shuffle(order);
      at = 0;
    }
    const own = order.subarray(at, at + batch);
    at += batch;
    gradient.fill(0);
    for (const record of own) {
      probabilities(w, data, record, p);
      const label = labels[record] as number;
      p[label] = (p[label] as number) - 1;
      for (let j = 0; j <= d; j++) {
        const x = j === d ? 1 : (features[record * d + j] as number);
        if (x === 0) continue;
        for (let c = 0; c < classes; c++)
          gradient[j * classes + c] = (gradient[j * classes + c] as number) + x * (p[c] as number);
      }
    }
    for (let k = 0; k < w.length; k++) w[k] = (w[k] as number) - (rate / own.length) * (gradient[k] as number);
  }
}

const zeros = ({ featureLength, classes }: Dataset): Float64Array => new Float64Array((featureLength + 1) * classes);
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

async function load(name: string, scaling?: string): Promise<readonly SplitData[]> {
  const { scenario, options } = findScenario(name);
  const given = scaling === undefined ? options : { ...options, scaling };
  const { participants } = await scenario.load(1, given, { folder: DATA_FOLDER });
  return participants.map((participant) => ({ train: participant.train, test: participant.test }));
}

describe('published baselines', () => {
  it.skipIf(!hasData('uci-heart'))(`heart-4: FedAvg and Local ${NEEDS_DATA}`, async () => {
    const hospitals = await load('heart-4', 'standardized-own');
    const [first] = hospitals;
    if (first === undefined) expect.fail('no hospital');
    const total = hospitals.reduce((sum, { train: { count } }) => sum + count, 0);
    const federated: number[] = [];
    const local: number[] = [];
    for (let seed = 0; seed < 5; seed++) {
      let w = zeros(first.train);
      for (let round = 0; round < 15; round++) {
        const next = zeros(first.train);
        hospitals.forEach(({ train: data }, i) => {
          const own = Float64Array.from(w);
          train(own, data, createRandom(seed, 100 * round + i), 4, 100, 0.00316);
          own.forEach((value, k) => {
            next[k] = (next[k] as number) + (data.count / total) * value;
          });
        });
        w = next;
      }
      federated.push(mean(hospitals.map(({ test }) => accuracyOf(w, test))));
      local.push(
        mean(
          hospitals.map(({ train: data, test }, i) => {
            const own = zeros(data);
            train(own, data, createRandom(seed, i), 4, 1500, 0.00316);
            return accuracyOf(own, test);
          }),
        ),
      );
    }
    // FLamby publishes .718 +- .014 for FedAvg on this split.
    expect(Math.abs(mean(federated) - 0.729)).toBeLessThan(0.02);
    expect(Math.abs(mean(local) - 0.779)).toBeLessThan(0.03);
  });

  it.skipIf(!hasData('mnist', 'qmnist'))(`qmnist-writers: Local ${NEEDS_DATA}`, async () => {
    const writers = await load('qmnist-writers');
    const accuracies = writers.map(({ train: data, test }, i) => {
      const w = zeros(data);
      train(w, data, createRandom(1, i), 16, 30 * Math.ceil(data.count / 16), 0.1);
      return { accuracy: accuracyOf(w, test), weight: test.count };
    });
    const total = accuracies.reduce((sum, { weight }) => sum + weight, 0);
    const weighted = accuracies.reduce((sum, { accuracy, weight }) => sum + (accuracy * weight) / total, 0);
    expect(Math.abs(weighted - 0.919)).toBeLessThan(0.015);
    const sorted = accuracies.map(({ accuracy }) => accuracy).sort((a, b) => a - b);
    expect(Math.abs(mean(sorted.slice(0, 53)) - 0.749)).toBeLessThan(0.03);
  });
});
