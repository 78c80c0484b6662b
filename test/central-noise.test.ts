import { beforeAll, describe, expect, it } from 'vitest';
import type { RecordedResult } from '../experiments/benchmark.ts';
import { centralNoise, runCentral } from '../experiments/central-run.ts';
import { simulationStream } from '../experiments/comparison.ts';
import { type ExperimentResult, runExperiment } from '../experiments/experiment.ts';
import { type ExperimentOptions, experimentConfig } from '../experiments/experiment-config.ts';
import { runInProcess } from '../experiments/in-process.ts';
import { compareNoise } from '../experiments/noise-comparison.ts';
import { type SettingChanges, settingsWith } from '../experiments/rows.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset } from '../src/data/dataset.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { gaussianEpsilon } from '../src/privacy/analytic-gaussian.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { planRun, trainingBlocks } from '../src/run/plan.ts';
import { sumCoordinates } from '../src/run/release.ts';
import { codeOf } from './support/code-of.ts';

const SEED = 3;

function ask(changes: SettingChanges, more: Partial<ExperimentOptions> = {}): ExperimentOptions {
  return {
    algorithm: 'fedavg',
    options: {},
    settings: settingsWith(settingsOf('digits'), { rounds: 2, clippingNorm: 0.5, ...changes }),
    seed: SEED,
    privacy: { noiseMultiplier: 8 },
    perStep: null,
    colluders: 0,
    ...more,
  };
}

const meanSquare = (parts: readonly Float64Array[]): number => {
  const values = parts.flatMap((part) => [...part]);
  return values.reduce((sum, value) => sum + value * value, 0) / values.length;
};

describe('central continuous noise beside the noise of a deployment', () => {
  let data: ScenarioData;
  beforeAll(async () => {
    data = await findScenario('digits').scenario.load(SEED);
  });

  /** Sums of a run whose organizations have no records: noise alone, decoded. */
  function noiseOf(config: RunConfig, isCentral: boolean): Float64Array[] {
    const { inputs, classes } = config.model;
    const oracle = createDenseOracle(config.model);
    const empty = createDataset(inputs, classes, new Float32Array(0), new Uint8Array(0));
    const sums: Float64Array[] = [];
    const common = {
      config,
      runId: '00'.repeat(16),
      crypto: nodeCrypto,
      random: simulationStream(nodeCrypto, SEED, 9),
      organizations: data.participants.map(() => ({ data: empty, oracle })),
      isPresent: () => true,
    };
    if (isCentral) runCentral({ ...common, onSums: (of) => sums.push(...of.map((sum) => sum.slice())) });
    else
      runInProcess({
        ...common,
        onRelease(params, sum) {
          const { clippingNorm, scale, rotationSeed } = params.encoding;
          const encoder = createEncoder(nodeCrypto, {
            blocks: trainingBlocks(config, 1),
            clippingNorm,
            scale,
            rotationSeed,
          });
          sums.push(...encoder.decode(sumCoordinates(params, sum)));
        },
      });
    return sums;
  }

  it.each([
    ['participant', { lanes: 4 }],
    ['record', { lanes: 4, terms: 'float-bounded' }],
    ['record', {}],
  ] as const)('has the same epsilon and noise of the same variance at unit %s with %o', (unit, changes) => {
    const config = experimentConfig(data, ask({ unit, ...changes }));
    const { noiseMultiplier } = centralNoise(config);
    expect(noiseMultiplier).toBeCloseTo(8, 3);
    const expected = (noiseMultiplier * config.training.clippingNorm) ** 2;
    // 2 x 3,610 draws: the mean square is known to 1.7 %, four deviations are 7 %.
    expect(meanSquare(noiseOf(config, true)) / expected).toBeCloseTo(1, 1);
    // Integers cost the factor by which rounding lengthens a term, which the plan knows.
    const { sensitivity } = planRun(config);
    const lengthened = (sensitivity / (config.encoding.scale * config.training.clippingNorm)) ** 2;
    const deployed = meanSquare(noiseOf(config, false));
    expect(deployed / (expected * lengthened)).toBeGreaterThan(0.93);
    expect(deployed / (expected * lengthened)).toBeLessThan(1.07);
    const isNarrow = config.encoding.lanes === 4;
    expect(isNarrow).toBe('lanes' in changes);
    // Nearly all of the six deviations that the heuristic leaves room for are noise's.
    expect(isNarrow ? 5 * Math.sqrt(expected) * config.encoding.scale : 0).toBeLessThan(2 ** 15);
    if (unit === 'participant') expect(lengthened).toBeLessThan(1.01);
  });

  it('makes integers as fine as the ring allows where nothing is shared', () => {
    // A body without tensors still has a coordinate: it holds nothing that could overflow.
    const config = experimentConfig(data, ask({ hidden: [], lanes: 4 }));
    expect(config.encoding.scale).toBeGreaterThan(500);
    expect(planRun(config).sensitivity / (config.encoding.scale * config.training.clippingNorm)).toBeLessThan(1.01);
  });

  it('sees the same records, samples and minibatches: without noise both runs end at the same model', () => {
    for (const unit of ['participant', 'record'] as const) {
      const config = experimentConfig(
        data,
        ask({ unit }, { algorithm: 'ditto', privacy: null, options: { lambda: 0.1 } }),
      );
      const oracle = createDenseOracle(config.model);
      const common = {
        config,
        runId: '00'.repeat(16),
        crypto: nodeCrypto,
        organizations: data.participants.map(({ train }) => ({ data: train, oracle })),
        isPresent: (i: number) => i !== 2 || unit === 'record',
      };
      const minSurvivors = unit === 'record' ? 12 : 11;
      const cohort = { ...config.cohort, minSurvivors, minOrgs: minSurvivors };
      const run = { ...common, config: { ...config, cohort } };
      const central = runCentral({ ...run, random: simulationStream(nodeCrypto, SEED, 3) });
      const deployed = runInProcess({ ...run, random: simulationStream(nodeCrypto, SEED, 3) });
      const far = (a: ArrayLike<number> = [], b: ArrayLike<number> = []): number =>
        Math.max(...Array.from(a, (value, i) => Math.abs(value - (b[i] ?? Number.NaN))));
      expect(far(central.state.models.heads[0], deployed.state.models.heads[0])).toBeLessThan(5e-5);
      expect(far(central.state.models.body, deployed.state.models.body)).toBeLessThan(5e-5);
      // Another seed of the members draws other minibatches, which would be seen.
      const other = runCentral({ ...run, random: simulationStream(nodeCrypto, SEED, 4) });
      expect(far(other.state.models.body, deployed.state.models.body)).toBeGreaterThan(2e-4);
      expect(far(central.locals[5]?.['body'], deployed.locals[5]?.['body'])).toBeLessThan(5e-5);
    }
  });

  it('claims the same epsilon, exact Gaussian accounting below both', () => {
    const [central, deployed] = (['central', undefined] as const).map((noise) =>
      runExperiment(nodeCrypto, data, ask({ noise, lanes: 4 })),
    ) as [ExperimentResult, ExperimentResult];
    expect(deployed.epsilon?.server).toBeCloseTo(central.epsilon?.server ?? 0, 4);
    expect(central.epsilon?.server).toBeGreaterThan(gaussianEpsilon(8 / Math.sqrt(2), 1e-5));
    const recorded = [central, deployed].map((result, i) => ({
      ...result,
      settings: ask({ noise: i === 0 ? 'central' : undefined, lanes: 4 }).settings,
      privacy: { noiseMultiplier: 8 },
      perStep: null,
    })) as RecordedResult[];
    expect(compareNoise(recorded)).toEqual([
      expect.objectContaining({ lanes: 4, central: [central.personal.mean], deployed: [deployed.personal.mean] }),
    ]);
    expect(compareNoise([...recorded, ...recorded])).toEqual(compareNoise(recorded));
    const elsewhere = recorded.map((result, i) => (i === 0 ? { ...result, split: 'another' } : result));
    expect(compareNoise(elsewhere)).toEqual([]);
  });

  it('exists in experiments alone: no configuration names it, and other releases are refused', () => {
    const config = experimentConfig(data, ask({}));
    expect(codeOf(() => parseRunConfig({ ...config, privacy: { ...config.privacy, mechanism: 'central' } }))).toBe(
      'USAGE_CONFIG',
    );
    expect(codeOf(() => parseRunConfig({ ...config, privacy: { ...config.privacy, noise: 'central' } }))).toBe(
      'USAGE_CONFIG',
    );
    for (const algorithm of ['ifca', 'evolving'])
      expect(
        codeOf(() => runExperiment(nodeCrypto, data, ask({ noise: 'central' }, { algorithm, privacy: null }))),
      ).toBe('USAGE_CONFIG');
  });
});
