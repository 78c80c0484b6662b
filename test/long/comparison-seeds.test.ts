import { describe, expect, it } from 'vitest';
import { type ComparisonRow, compareFederation, compareLocal, globalConfig } from '../../experiments/comparison.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { summarizeAccuracies } from '../../src/learning/evaluation.ts';
import { scenarioConfig } from '../../src/run/scenario.ts';

/**
 * The table of the demo over several seeds, through the ideal aggregator, nobody lost. Size: COVEY_SEEDS seeds from
 * COVEY_FIRST_SEED, 10 from 1.
 */
const SEEDS = Number(process.env['COVEY_SEEDS'] ?? 10);
const FIRST_SEED = Number(process.env['COVEY_FIRST_SEED'] ?? 1);
const PARTICIPANTS = 12;

function rowsOf(seed: number): ComparisonRow[] {
  const config = scenarioConfig('digits', { seed, steps: 80, targetEpsilon: 8, participants: PARTICIPANTS });
  const organizations = Array.from({ length: PARTICIPANTS }, (_, i) => generateDigits(seed, i));
  const everybody = (): boolean => true;
  return [
    compareLocal(config, organizations),
    ...compareFederation(nodeCrypto, globalConfig(config), organizations, everybody, ['Global', 'Global + personal']),
    ...compareFederation(nodeCrypto, config, organizations, everybody, ['Clustered', 'Clustered + personal']),
  ];
}

describe('the comparison of the demo', () => {
  it(`puts clustered + personal ahead on average over ${SEEDS} seeds, within the budget`, {
    timeout: 1_800_000,
  }, () => {
    const means = new Map<string, { mean: number; worst: number }>();
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      for (const { name, accuracies, epsilon } of rowsOf(seed)) {
        const { mean, worst } = summarizeAccuracies(accuracies);
        const before = means.get(name) ?? { mean: 0, worst: 0 };
        means.set(name, { mean: before.mean + mean / SEEDS, worst: before.worst + worst / SEEDS });
        if (epsilon !== null) expect(epsilon.server).toBeLessThanOrEqual(8);
      }
    }
    const table = [...means].map(([name, { mean, worst }]) => `${name}: ${mean.toFixed(3)} / ${worst.toFixed(3)}`);
    process.stdout.write(`mean / worst over ${SEEDS} seeds\n${table.join('\n')}\n`);
    const of = (name: string): { mean: number; worst: number } => means.get(name) ?? { mean: 1, worst: 1 };
    const best = of('Clustered + personal');
    for (const baseline of ['Local only', 'Global']) {
      expect(best.mean - of(baseline).mean).toBeGreaterThanOrEqual(0.04);
      expect(best.worst - of(baseline).worst).toBeGreaterThanOrEqual(0.08);
    }
  });
});
