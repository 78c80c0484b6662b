import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordedResult } from '../experiments/benchmark.ts';
import { type ExperimentResult, runExperiment } from '../experiments/experiment.ts';
import type { ExperimentOptions } from '../experiments/experiment-config.ts';
import { oraclesFor } from '../experiments/oracles.ts';
import { realSum } from '../experiments/real-sum.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf, type TrainingSettings } from '../experiments/settings.ts';
import { cellsOf, describeSettings } from '../experiments/study/cells.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { readModelDefinition } from '../src/learning/model-definition.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { BUILT_COMMAND } from './support/built-command.ts';
import { CONVOLUTIONAL } from './support/model-files.ts';

const execute = promisify(execFile);
const { shape: model } = readModelDefinition({ modelJson: CONVOLUTIONAL });
const ask = (algorithm: string, changes: Partial<TrainingSettings> = {}): ExperimentOptions => ({
  algorithm,
  options: {},
  settings: { ...settingsOf('digits'), rounds: 2, epochs: 1, model, ...changes },
  seed: 3,
  privacy: null,
  perStep: null,
  colluders: 0,
});

describe('a row of the benchmark with a network of layers', () => {
  let data: ScenarioData;
  let createOracle: (model: DenseShape) => GradientOracle;
  beforeAll(async () => {
    data = await findScenario('digits').scenario.load(3);
    createOracle = await oraclesFor(model);
  });

  it('has the same numbers through the real protocol as with the ideal sum', () => {
    const row = (more: object = {}): Omit<ExperimentResult, 'seconds'> => {
      const { seconds: _, ...result } = runExperiment(nodeCrypto, data, ask('fedper'), { createOracle, ...more });
      return result;
    };
    const ideal = row();
    expect(row({ secureSum: realSum(12) })).toEqual(ideal);
    // The body alone travels: 60 of 1,030 parameters, padded to a power of two.
    expect(ideal.bytesUp).toBe(2 * 64 * 4);
  });

  it('is cut where the name of the row says, and trained alone in the row of the baseline', () => {
    // An empty body takes two coordinates.
    const whole = runExperiment(nodeCrypto, data, ask('fedavg@0'), { createOracle });
    expect(whole.bytesUp).toBe(2 * (2 + 2_048) * 4);
    expect(() => runExperiment(nodeCrypto, data, ask('fedavg@2'), { createOracle })).toThrow(
      '"sharedLayers" expected 0 to 1, got 2',
    );
    expect(runExperiment(nodeCrypto, data, ask('local'), { createOracle }).personal.mean).toBeGreaterThan(0.3);
  });

  it('is refused where it does not read the records, and without an engine', () => {
    const other = { ...model, inputs: 81 };
    expect(() => runExperiment(nodeCrypto, data, ask('fedavg', { model: other }), { createOracle })).toThrow(
      '"model" expected 64 inputs for digits, got 81',
    );
    expect(() => runExperiment(nodeCrypto, data, ask('fedavg'))).toThrow('"model" expected a perceptron');
  });
});

describe('covey experiment run --model', () => {
  const folders: string[] = [];
  afterAll(async () => {
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  });

  async function run(...args: string[]): Promise<string> {
    try {
      return (await execute(process.execPath, [BUILT_COMMAND, 'experiment', 'run', 'digits', ...args])).stdout;
    } catch (error) {
      return (error as { readonly stderr: string }).stderr;
    }
  }

  it('reads a layers file and an optimizer, and names what is wrong in one line', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-experiment-'));
    folders.push(folder);
    const file = join(folder, 'conv.json');
    await writeFile(file, CONVOLUTIONAL);
    const out = join(folder, 'out');
    const args = ['--model', file, '--only', '--rounds', '1', '--out', out, '--threads', '1', '--json'];
    const line = await run(...args, '--optimizer', 'adam:weightDecay=0.001', '--local-step', '0.003');
    const result = JSON.parse(line) as RecordedResult;
    expect(result.settings).toMatchObject({ model, optimizer: { kind: 'adam', weightDecay: 0.001 }, stepSize: 0.003 });
    expect(await readFile(join(out, 'results.csv'), 'utf8')).toContain('fedavg');
    await writeFile(file, 'no model');
    for (const [flags, expected] of [
      [['--model', file], 'covey: '],
      [['--model', file, '--hidden', '8'], 'covey: "--model" and "--hidden" expected one of them, got both'],
      [['--optimizer', 'adam:momentum=0.9'], 'covey: "--optimizer" expected'],
      [['--unit', 'record', '--local-step', '0.1'], 'covey: "optimizer" and "local step" expected none at unit record'],
    ] as const) {
      const said = await run(...flags);
      expect(said.startsWith(expected)).toBe(true);
      expect(said.trim().split('\n')).toHaveLength(1);
    }
  });

  it('is a key of a study, from whose folder its path starts', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-study-'));
    folders.push(folder);
    await writeFile(join(folder, 'conv.json'), CONVOLUTIONAL);
    const part = { scenario: 'digits', algorithm: ['fedavg', 'local'], rounds: 1 };
    const study = join(folder, 'study.json');
    const sweep = async (model: string): Promise<string> => {
      await writeFile(
        study,
        JSON.stringify({
          parts: [
            { ...part, model },
            { ...part, algorithm: 'fedavg' },
          ],
        }),
      );
      const args = ['experiment', 'sweep', study, '--out', join(folder, 'out'), '--json'];
      const said = await execute(process.execPath, [BUILT_COMMAND, ...args]).catch((error) => error);
      return said.code === undefined ? said.stdout : said.stderr;
    };
    const rows = (await sweep('conv.json')).trim().split('\n');
    const results = rows.map((line) => JSON.parse(line) as RecordedResult);
    expect(results.map(({ algorithm, settings }) => [algorithm, settings.model])).toEqual([
      ['fedavg', model],
      ['local', model],
      ['fedavg', undefined],
    ]);
    const cells = cellsOf(results);
    expect(cells.map((cell) => describeSettings(cell, ['model']))).toEqual([
      '4 layers with 1030 parameters',
      '4 layers with 1030 parameters',
      '',
    ]);
    expect(await sweep('other.json')).toMatch(/^covey: "model.file" expected a readable file, got .*other\.json/);
  });
});
