import { describe, expect, it } from 'vitest';
import {
  CLUSTER_MODES,
  type Combination,
  combinationsOf,
  combine,
  ORGANIZATIONS,
  refusalOf,
} from '../../experiments/combinations.ts';
import { type InProcessResult, runInProcess } from '../../experiments/in-process.ts';
import { realSum } from '../../experiments/real-sum.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { toHex } from '../../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../../protocol/ideal.ts';
import { selectRecords } from '../../src/data/dataset.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createRandom } from '../../src/data/random.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { ALGORITHMS } from '../../src/learning/registry.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { personalModel } from '../../src/run/home.ts';
import { NEW_MEMBER } from '../../src/run/member.ts';
import { initialState } from '../../src/run/release.ts';
import { modelsHash } from '../../src/run/released.ts';
import { repeatable } from '../support/repeatable.ts';

/** A few records of everybody: what is tested is how parts fit together. */
const SITES = ORGANIZATIONS.map((_, i) => {
  const { train } = generateDigits(5, i);
  return selectRecords(
    train,
    Uint32Array.from({ length: 16 }, (__, record) => record),
  );
});

function run(config: RunConfig, secureSum: SecureSum): InProcessResult {
  const oracle = createDenseOracle(config.model);
  return runInProcess({
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    crypto: nodeCrypto,
    random: repeatable(7),
    organizations: SITES.map((data) => ({ data, oracle })),
    isPresent: () => true,
    secureSum,
  });
}

const nameOf = ({ algorithm, clusters, personal, unit }: Combination): string =>
  `${algorithm.info.id}, slots ${clusters}, ${personal}, unit ${unit}`;

/** Reasons that a refusal may give: none of them is a shape, a missing field or a fault of ours. */
const REASONS = [
  /^"algorithm" expected one that keeps the record rule, got [\w-]+: \w.{20,}$/,
  /^"charges" expected exponential-mechanism for (ifca|flsc|evolving): \w.{20,}$/,
  /^"clusters" expected (none|chosen|several|soft|evolving) slots for [\w-]+, got (none|chosen|several|soft|evolving)$/,
  /^"algorithm" [\w-]+: expected gradients alone with noise inside the organization, got \w.+$/,
  /^"clusters.assignment" expected hard with noise inside the organizations: weights would read losses of raw records$/,
  /^"algorithm.labels" expected none with noise inside the organizations$/,
  /^"clusters.open" expected none for ifca: its slots are chosen$/,
  /^"algorithm.id" expected flsc with slots that are filled by several, got [\w-]+$/,
  /^"model.sharedLayers" expected at least 1 for [\w-]+, got 0: nothing would be shared$/,
];

describe('every combination of algorithm, personal part, slots and unit', () => {
  const all = ALGORITHMS.flatMap(combinationsOf);

  it('is refused with its reason or runs', () => {
    for (const combination of all) {
      const refusal = refusalOf(combination);
      if (refusal !== null)
        expect(
          REASONS.some((reason) => reason.test(refusal)),
          `${nameOf(combination)}: ${refusal}`,
        ).toBe(true);
    }
    const running = all.filter((combination) => refusalOf(combination) === null);
    // No mode, unit or algorithm without a combination that runs.
    for (const mode of CLUSTER_MODES)
      expect(
        running.some(({ clusters }) => clusters === mode),
        mode,
      ).toBe(true);
    for (const { info } of ALGORITHMS) {
      const units = new Set(running.filter(({ algorithm }) => algorithm.info.id === info.id).map(({ unit }) => unit));
      expect(units.has('participant'), info.id).toBe(true);
      expect(units.has('record'), info.id).toBe(info.recordLevel.kind !== 'local-noise-only');
    }
  });

  const running = all.filter(({ personal }) => personal === 'fine-tuning').filter((c) => refusalOf(c) === null);
  for (const combination of running) {
    it(`${nameOf(combination)}: the same bits through the real protocol, and a personal model of either kind`, () => {
      const config = combine(combination);
      const [real, ideal] = [run(config, realSum(SITES.length)), run(config, idealSum)];
      expect(toHex(modelsHash(nodeCrypto, real.state.models))).toBe(toHex(modelsHash(nodeCrypto, ideal.state.models)));
      expect([real.locals, real.members]).toEqual([ideal.locals, ideal.members]);
      const { models } = ideal.state;
      expect(toHex(modelsHash(nodeCrypto, models))).not.toBe(
        toHex(modelsHash(nodeCrypto, initialState(config).models)),
      );
      expect([models.body, ...models.heads].every((values) => values.every(Number.isFinite))).toBe(true);
      expect(ideal.epsilon.server).toBeLessThanOrEqual(200 * (1 + 1e-9));
      const oracle = createDenseOracle(config.model);
      const [data, local, member] = [SITES[0], ideal.locals[0] ?? {}, ideal.members[0] ?? NEW_MEMBER];
      if (data === undefined) throw new Error('no site');
      const personal = (own: RunConfig) => personalModel(own, models, member, { oracle, data, local }, createRandom(1));
      const [tuned, plain] = [personal(config), personal(combine({ ...combination, personal: 'none' }))];
      expect(tuned).not.toEqual(plain);
      for (const values of [tuned.body, tuned.head, plain.body, plain.head])
        expect(values.every(Number.isFinite)).toBe(true);
    });
  }
});
