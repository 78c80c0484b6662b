import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordedResult } from '../experiments/benchmark.ts';
import { type ExperimentResult, runExperiment } from '../experiments/experiment.ts';
import { type ExperimentOptions, experimentConfig } from '../experiments/experiment-config.ts';
import { realSum } from '../experiments/real-sum.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import type { ScenarioData } from '../src/data/scenario.ts';
import { BUILT_COMMAND } from './support/built-command.ts';

const execute = promisify(execFile);
const ask = (algorithm: string, changes: Partial<ExperimentOptions> = {}): ExperimentOptions => ({
  algorithm,
  options: {},
  settings: { ...settingsOf('digits'), rounds: 2, epochs: 1 },
  seed: 3,
  privacy: null,
  perStep: null,
  colluders: 0,
  ...changes,
});
const numbersOf = ({ seconds: _, ...result }: ExperimentResult): Omit<ExperimentResult, 'seconds'> => result;

describe('a row of the benchmark', () => {
  let data: ScenarioData;
  beforeAll(async () => {
    data = await findScenario('digits').scenario.load(3);
  });

  it('has the same numbers again, and through the real protocol', () => {
    const ideal = numbersOf(runExperiment(nodeCrypto, data, ask('ditto')));
    expect(numbersOf(runExperiment(nodeCrypto, data, ask('ditto')))).toEqual(ideal);
    expect(numbersOf(runExperiment(nodeCrypto, data, ask('ditto'), { secureSum: realSum(12) }))).toEqual(ideal);
    expect(ideal.released?.mean).not.toBe(ideal.personal.mean);
  });

  it('spends what its noise multiplier says', () => {
    const spent = runExperiment(nodeCrypto, data, ask('fedavg', { privacy: { noiseMultiplier: 4 } }));
    // Two releases of a Gaussian of multiplier 4: rho = 1/16, converted at the best order (privacy F4).
    const orders = Array.from({ length: 400 }, (_, i) => 2 + i / 10);
    const at = (a: number): number => a / 16 + Math.log((a - 1) / a) - (Math.log(1e-5) + Math.log(a)) / (a - 1);
    expect(spent.epsilon?.server).toBeCloseTo(Math.min(...orders.map(at)), 3);
    expect(spent.protection).toBe('noise');
  });

  it('draws the participants of each step anew and moves as far with fewer', () => {
    const config = experimentConfig(data, ask('fedavg', { perStep: 4 }));
    expect([config.cohort.minSurvivors, config.training.stepSize]).toEqual([4, 3]);
    const few = runExperiment(nodeCrypto, data, ask('fedavg', { perStep: 4 }));
    expect(few.released?.mean).not.toBe(runExperiment(nodeCrypto, data, ask('fedavg')).released?.mean);
  });

  it('sends nothing and releases nothing where every participant is alone', () => {
    const local = runExperiment(nodeCrypto, data, ask('local'));
    expect([local.epsilon, local.bytesUp, local.released]).toEqual([null, 0, null]);
  });

  it('says what is too small or too large for a run', () => {
    const few = { ...data, participants: data.participants.slice(0, 2) };
    expect(() => runExperiment(nodeCrypto, few, ask('fedavg'))).toThrow(
      /"participants" expected at least 3 in a sum of digits, got 2; hint: --algorithm local --only/,
    );
    const wide = { ...settingsOf('digits'), hidden: [65_536, 65_536] };
    for (const algorithm of ['fedavg', 'local'])
      expect(() => runExperiment(nodeCrypto, data, ask(algorithm, { settings: wide }))).toThrow(
        /"model.hidden" expected at most 16777216 parameters, got \d+/,
      );
  });

  it('refuses raw statistics at unit record', () => {
    const raw = { ...data, manifest: { ...data.manifest, recordRule: false } };
    const settings = { ...settingsOf('digits'), unit: 'record', clippingNorm: 1, rounds: 2 } as const;
    expect(() => runExperiment(nodeCrypto, raw, ask('fedavg', { settings, privacy: { epsilon: 4 } }))).toThrow(
      /"scenario" expected features of one record alone/,
    );
  });

  it('makes no claim at unit participant over statistics of all participants', () => {
    const raw = { ...data, manifest: { ...data.manifest, recordRule: false } };
    expect(() => runExperiment(nodeCrypto, raw, ask('fedavg', { privacy: { epsilon: 4 } }))).toThrow(
      /"scenario" expected features of one participant's records alone for a claim, got digits/,
    );
    expect(runExperiment(nodeCrypto, raw, ask('fedavg')).protection).not.toBe('noise');
    const own = { ...raw, manifest: { ...raw.manifest, participantRule: true } };
    expect(runExperiment(nodeCrypto, own, ask('fedavg', { privacy: { epsilon: 4 } })).protection).toBe('noise');
  });
});

describe('covey experiment', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'covey-experiment-'));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const covey = async (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> => {
    try {
      return { code: 0, ...(await execute(process.execPath, [BUILT_COMMAND, 'experiment', ...args])) };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { code, stdout, stderr };
    }
  };

  it('prints a table, records every row, and goes on where it was cut off', async () => {
    const args = ['run', 'digits', '--algorithm', 'fedrep', '--rounds', '1', '--threads', '2', '--out', folder];
    const first = await covey(...args);
    expect(first.code).toBe(0);
    for (const row of ['local', 'fedavg', 'fedavg+ft', 'fedrep'])
      expect(first.stdout).toMatch(new RegExp(`^${row.replace('+', '\\+')} `, 'm'));
    const file = join(folder, 'results.jsonl');
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    expect(lines.length).toBe(4);
    const table = await readFile(join(folder, 'results.csv'), 'utf8');
    expect(table.split('\n').length).toBe(6);
    // Whoever has the folder can tell which records every row is about.
    for (const line of lines) {
      const { split } = JSON.parse(line) as RecordedResult;
      const manifest = JSON.parse(await readFile(join(folder, `split-${split.slice(0, 16)}.json`), 'utf8'));
      const { scenario, seed, options, participants } = manifest;
      const hashed = canonicalJson({ scenario, seed, options, participants });
      expect(createHash('sha256').update(hashed).digest('hex')).toBe(split);
      expect(participants).toHaveLength(12);
    }
    // A line that was cut off is computed again, the others are not.
    const whole = lines.slice(0, 3).join('\n');
    await writeFile(file, `${whole}\n${lines[3]?.slice(0, 40)}`);
    const again = await covey(...args, '--seeds', '1', '--json');
    const rows = again.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as RecordedResult);
    expect(rows.map(({ job }) => job).toSorted()).toEqual(
      lines.map((line) => (JSON.parse(line) as RecordedResult).job).toSorted(),
    );
    const kept = lines.slice(0, 3).map((line) => (JSON.parse(line) as RecordedResult).seconds);
    expect(rows.map(({ seconds }) => seconds)).toEqual(expect.arrayContaining(kept));
    expect(
      (await readFile(file, 'utf8'))
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)).length,
    ).toBe(4);
  });

  it('makes a row for every cut of a model, each with as many shared layers as it says', async () => {
    const args = [
      'run',
      'digits',
      '--algorithm',
      'layer-sharing',
      '--hidden',
      '9,8',
      '--cuts',
      '--rounds',
      '1',
      '--json',
    ];
    const { code, stdout } = await covey(...args, '--out', join(folder, 'cuts'));
    expect(code).toBe(0);
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as RecordedResult);
    const up = Object.fromEntries(rows.map(({ algorithm, bytesUp }) => [algorithm, bytesUp]));
    // 64 * 9 + 9 = 585 parameters below the first cut, 80 more below the second; padded to powers of two, four bytes each.
    expect(up).toMatchObject({ local: 0, 'layer-sharing@1': 4 * 1_024, 'layer-sharing@2': 4 * 1_024 });
    expect(Object.keys(up).toSorted()).toEqual(['fedavg', 'fedavg+ft', 'layer-sharing@1', 'layer-sharing@2', 'local']);
    const of = (name: string): number | undefined => rows.find(({ algorithm }) => algorithm === name)?.personal.mean;
    expect(of('layer-sharing@1')).not.toBe(of('layer-sharing@2'));
  });

  it('says in one line what is wrong', async () => {
    for (const [args, code, line] of [
      [['run', 'nothing'], 2, /^covey: "scenario" expected one of digits, .*, got nothing \[USAGE_CONFIG\]\n$/],
      [['run', 'digits', '--set', 'mu=1'], 2, /^covey: "--set" expected nothing for these rows, got mu/],
      [['run', 'digits', '--algorithm', 'ditto', '--set', 'lambda=x'], 2, /"--set" expected name=number, got lambda=x/],
      [['run', 'digits', '--epsilon', '1', '--noise-multiplier', '1'], 2, /expected one of them, got both/],
      [
        ['run', 'digits', '--algorithm', 'fedrep', '--unit', 'record'],
        3,
        /expected one that keeps the record rule, got fedrep/,
      ],
      [['run', 'digits', '--algorithm', 'layer-sharing', '--cuts'], 2, /"--cuts" expected "--hidden"/],
      [['run', 'digits', '--hidden', '9,x'], 2, /"--hidden" expected one to four widths, got 9,x/],
      [
        ['run', 'digits', '--unit', 'record', '--curriculum', 'easy', '--expert', 'local'],
        3,
        /"--expert" expected global at unit record, got local/,
      ],
      [['run', 'digits', '--data-dir', '/nowhere'], 2, /"--data-dir" expected a folder, got \/nowhere/],
    ] as const) {
      const result = await covey(...args, '--out', folder);
      expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(line)]);
      expect(result.stderr.trimEnd().split('\n').length).toBe(1);
    }
  });
});
