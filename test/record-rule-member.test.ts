import { describe, expect, it } from 'vitest';
import { simulatedRoster } from '../experiments/in-process.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { unpackLanes } from '../protocol/ring.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams } from '../src/run/order.ts';
import { planRun } from '../src/run/plan.ts';
import { initialState } from '../src/run/release.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

const config = scenarioConfig('digits', { seed: 1, steps: 80, targetEpsilon: 8, participants: 12 });
const plan = planRun(config);
const facts = { runId: '00'.repeat(16), config, plan, roster: simulatedRoster(nodeCrypto, 12).roster };
const oracle = createDenseOracle(config.model);
const order = { session: { kind: 'train', step: 3 } as const, models: initialState(config).models };
const params = orderParams(nodeCrypto, facts, order, { round: 5, attempt: 0 });
const coordinates = params.layout.reduce((sum, { length }) => sum + length, 0);
const member = { ...NEW_MEMBER, slot: 4 };
const { train } = generateDigits(1, 0);

/** The vector that an organization would mask; one seed, so that sample and noise are the same for all data. */
function vectorOf(data: Dataset): Int32Array {
  const inputs = { data, oracle, local: {}, seed: new Uint8Array(32).fill(3) };
  const { words } = contribute(nodeCrypto, config, order, params, member, inputs);
  return unpackLanes(words, coordinates, params.ring.lanes);
}

function withRecord(record: number, change: (value: number, k: number) => number, label: number): Dataset {
  const features = train.features.map((value, i) =>
    Math.floor(i / train.featureLength) === record ? change(value, i % train.featureLength) : value,
  );
  return createDataset(
    train.featureLength,
    train.classes,
    features,
    train.labels.map((old, i) => (i === record ? label : old)),
  );
}

const squaredDistance = (a: Int32Array, b: Int32Array): bigint =>
  a.reduce((sum, value, i) => sum + BigInt(value - (b[i] as number)) ** 2n, 0n);

describe('record rule at an organization, from its data to the vector it masks', () => {
  const before = vectorOf(train);

  it('moves the vector by at most the charged sensitivity when a record becomes useless (zero-out)', () => {
    let moved = 0;
    for (let record = 0; record < 12; record++) {
      // A non-finite gradient is a zero term: what stays is the sum over all other records.
      const distance = squaredDistance(vectorOf(withRecord(record, () => Number.NaN, 0)), before);
      expect(distance <= BigInt(plan.sensitivity) ** 2n).toBe(true);
      if (distance > 0n) moved++;
    }
    // Half of the records are drawn; one that is not drawn moves nothing.
    expect(moved).toBeGreaterThan(0);
    expect(moved).toBeLessThan(12);
  });

  it('moves it by at most twice that when a record is replaced by a far one', () => {
    const scales = [1e-6, 1, 1e3, 1e30];
    for (const scale of scales) {
      for (let record = 0; record < 6; record++) {
        const replaced = withRecord(record, (_, k) => scale * Math.sin(k + record), 9);
        expect(squaredDistance(vectorOf(replaced), before) <= (2n * BigInt(plan.sensitivity)) ** 2n).toBe(true);
      }
    }
  });

  it('leaves every slot but the own one to the noise', () => {
    const other = vectorOf(withRecord(0, (value) => -value, 3));
    const all = contribute(
      nodeCrypto,
      config,
      order,
      params,
      { ...member, slot: 7 },
      {
        data: train,
        oracle,
        local: {},
        seed: new Uint8Array(32).fill(3),
      },
    );
    const moved = unpackLanes(all.words, coordinates, params.ring.lanes);
    let start = 0;
    params.layout.forEach(({ length }, block) => {
      const differs = (vector: Int32Array): boolean =>
        before.subarray(start, start + length).some((value, i) => value !== vector[start + i]);
      if (block > 0) {
        expect(differs(moved)).toBe(block === 1 + 4 || block === 1 + 7);
        if (block !== 1 + 4) expect(differs(other)).toBe(false);
      }
      start += length;
    });
  });
});
