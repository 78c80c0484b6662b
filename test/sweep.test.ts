import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordedResult } from '../experiments/benchmark.ts';
import { runExperiment } from '../experiments/experiment.ts';
import { type ExperimentOptions, experimentConfig } from '../experiments/experiment-config.ts';
import { lockFolder } from '../experiments/folder-lock.ts';
import { findScenario } from '../experiments/scenarios/registry.ts';
import { settingsOf } from '../experiments/settings.ts';
import { cellsOf } from '../experiments/study/cells.ts';
import { measureLeakage } from '../experiments/study/leakage.ts';
import { plotStudy } from '../experiments/study/plots.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createRandom } from '../src/data/random.ts';
import { buildScenarioManifest, type ScenarioData } from '../src/data/scenario.ts';
import { parseRunConfig } from '../src/run/config.ts';
import { BUILT_COMMAND } from './support/built-command.ts';

const execute = promisify(execFile);

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function covey(...args: readonly string[]): Promise<Outcome> {
  try {
    return { code: 0, ...(await execute(process.execPath, [BUILT_COMMAND, 'experiment', ...args])) };
  } catch (error) {
    return error as Outcome;
  }
}

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'covey-sweep-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function readRows(out: string): Promise<RecordedResult[]> {
  const text = await readFile(join(out, 'results.jsonl'), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as RecordedResult);
}

describe('covey experiment sweep', () => {
  const GRID = ['digits', '--algorithm', 'fedavg,local', '--epsilon', '2,none', '--clip', '1,2', '--rounds', '1'];

  it('is killed, goes on where it was, and has the numbers of a run that was not', async () => {
    const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
    const args = [...GRID, '--threads', '2'];
    const first = await covey('sweep', ...args, '--out', whole);
    expect([first.code, first.stdout]).toEqual([0, expect.stringMatching(/5 runs, 5 of them new/)]);
    // Killed without warning after the first run that was recorded.
    const child = spawn(process.execPath, [BUILT_COMMAND, 'experiment', 'sweep', ...args, '--out', broken], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await new Promise<void>((resolve) => {
      child.stderr.once('data', () => child.kill('SIGKILL'));
      child.once('exit', () => resolve());
    });
    expect(child.signalCode).toBe('SIGKILL');
    const before = await readFile(join(broken, 'results.jsonl'), 'utf8').catch(() => '');
    const kept = before.split('\n').slice(0, -1);
    const again = await covey('sweep', ...args, '--out', broken);
    expect([again.code, again.stdout]).toEqual([0, expect.stringContaining(`5 runs, ${5 - kept.length} of them new`)]);
    expect((await readFile(join(broken, 'results.jsonl'), 'utf8')).split('\n').slice(0, kept.length)).toEqual(kept);
    const numbers = async (out: string): Promise<string[]> =>
      (await readRows(out)).map(({ seconds: _, ...row }) => JSON.stringify(row)).sort();
    expect(await numbers(broken)).toEqual(await numbers(whole));
    // Whatever the order and the time of the runs, they are drawn as the same bytes.
    const drawn = await covey('plot', broken);
    const files = plotStudy('Privacy and utility', cellsOf(await readRows(whole)));
    expect(drawn.stdout.trimEnd().split('\n')).toEqual(files.map(({ name }) => join(broken, 'plots', name)));
    for (const { name, text } of files) expect(await readFile(join(broken, 'plots', name), 'utf8')).toBe(text);
  }, 300_000);

  it('leaves results that settings can be chosen from, and says what that costs', async () => {
    const whole = join(folder, 'whole');
    const chosen = await covey('recommend', whole, '--max-epsilon', '2', '--json');
    const answer = JSON.parse(chosen.stdout) as {
      recommended: { epsilon: number };
      data: string;
      search: { runs: number; unprotected: number; server: number; charged: boolean };
    };
    expect(answer.recommended.epsilon).toBeLessThanOrEqual(2);
    const { charged, runs, server, unprotected } = answer.search;
    expect([answer.data, charged, runs, unprotected]).toEqual(['simulated', false, 4, 2]);
    // Two protected runs over the same data: more than one of them, less than a plain sum.
    expect(server).toBeGreaterThan(2);
    expect(server).toBeLessThan(4);
    const spoken = await covey('recommend', whole, '--max-epsilon', '2', '--data', 'private');
    expect(spoken.stdout).toMatch(/for 2 runs, .* alone: the server saw the sums of every run/);
    expect(spoken.stdout).toMatch(/2 runs without noise besides: on private data they leave no claim at all/);
    expect(spoken.stdout).toMatch(/The data is private: this is spent/);
  });

  it('tells integer and float-bounded terms apart, from the study to the recommendation', async () => {
    const out = join(folder, 'terms');
    const args = ['--unit', 'record', '--noise-multiplier', '2', '--terms', 'integer,float-bounded', '--rounds', '1'];
    expect((await covey('sweep', 'digits', ...args, '--out', out)).code).toBe(0);
    const rows = await readRows(out);
    const rounded = rows.find(({ settings }) => settings.terms === 'float-bounded');
    expect(
      cellsOf(rows)
        .map(({ settings }) => settings.terms)
        .sort(),
    ).toEqual(['float-bounded', 'integer']);
    const where = ['--where', 'terms=float-bounded', '--max-epsilon', '9', '--json'];
    const chosen = JSON.parse((await covey('recommend', out, ...where)).stdout) as {
      recommended: { settings: { terms: string }; epsilon: number };
      search: { runs: number };
    };
    expect([chosen.recommended.settings.terms, chosen.search.runs]).toEqual(['float-bounded', 2]);
    expect(chosen.recommended.epsilon).toBe(rounded?.epsilon?.server);
  });

  it('refuses a folder that another process writes, and takes over the lock of a dead one', async () => {
    const out = join(folder, 'locked');
    const unlock = await lockFolder(out);
    await expect(lockFolder(out)).rejects.toThrow(
      /"--out" expected a folder that no other process writes, got .*locked/,
    );
    await unlock();
    const dead = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
    await new Promise((resolve) => dead.once('exit', resolve));
    await writeFile(join(out, '.lock'), `${dead.pid}\n`);
    await (await lockFolder(out))();
  });

  it('leaves out what does not fit and says so; with nothing left it is an error', async () => {
    // Twelve participants cannot meet in steps of thirteen.
    const some = await covey(
      'sweep',
      'digits',
      '--per-step',
      '4,13',
      '--rounds',
      '1',
      '--out',
      join(folder, 'refused'),
    );
    expect([some.code, some.stdout]).toEqual([0, expect.stringMatching(/1 runs, 1 of them new/)]);
    expect(some.stderr).toMatch(/digits fedavg, seed 1 does not run: "cohort.minSurvivors" expected at most 12/);
    const none = await covey('sweep', 'digits', '--per-step', '13', '--rounds', '1', '--out', join(folder, 'none'));
    expect([none.code, none.stderr]).toEqual([2, expect.stringMatching(/no run fits: "cohort.minSurvivors"/)]);
  });

  it('says in one line what is wrong', async () => {
    await writeFile(join(folder, 'fine.yaml'), 'parts: [{ scenario: digits }]');
    for (const [args, line] of [
      [['sweep', 'digits', '--epsilon', '1,two'], /expected a number from 0\.001 to 1000000, got "two"/],
      [['sweep', join(folder, 'fine.yaml'), '--clip', '1'], /"--clip" expected in the study file, got it beside/],
      [['sweep', join(folder, 'missing.yaml')], /"study" expected a readable file, got ENOENT/],
      [['plot', join(folder, 'nothing')], /"folder" expected recorded runs in results\.jsonl, got none/],
    ] as const) {
      const { code, stderr } = await covey(...args);
      expect([code, stderr]).toEqual([2, expect.stringMatching(line)]);
      expect(
        stderr
          .trimEnd()
          .split('\n')
          .filter((text) => !text.startsWith('Hint:')).length,
      ).toBe(1);
    }
  });
});

describe('cells of a sweep', () => {
  const ask = (changes: Partial<ExperimentOptions>): ExperimentOptions => ({
    algorithm: 'fedavg',
    options: {},
    settings: { ...settingsOf('digits'), rounds: 2, epochs: 1 },
    seed: 3,
    privacy: { epsilon: 6 },
    perStep: null,
    colluders: 0,
    ...changes,
  });

  it('lose as many participants as asked for, with noise for those who are left', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const config = experimentConfig(data, ask({ dropouts: 0.25 }));
    expect(config.cohort.minSurvivors).toBe(9);
    const lossy = runExperiment(nodeCrypto, data, ask({ dropouts: 0.25 }));
    const whole = runExperiment(nodeCrypto, data, ask({}));
    expect([lossy.epsilon?.server, whole.epsilon?.server]).toEqual([expect.closeTo(6, 4), expect.closeTo(6, 4)]);
    expect(lossy.released?.mean).not.toBe(whole.released?.mean);
    // Four of twelve are asked, one of them is lost.
    expect(experimentConfig(data, ask({ perStep: 4, dropouts: 0.25 })).cohort.minSurvivors).toBe(3);
  });

  it('declare the groups of the scenario as clusters in the open, or hide whole models', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const open = experimentConfig(data, ask({ mode: 'open', dropouts: 0.25 }));
    expect([open.clusters?.open?.map((names) => names.length), open.cohort.minSurvivors]).toEqual([[4, 4, 4], 3]);
    // Each cluster spends the target by itself, and each learns more from its own kind.
    expect(runExperiment(nodeCrypto, data, ask({ mode: 'open', dropouts: 0.25 })).epsilon?.server).toBeCloseTo(6, 4);
    const hidden = experimentConfig(data, ask({ algorithm: 'ifca', mode: 'hidden' }));
    const hybrid = experimentConfig(data, ask({ algorithm: 'ifca', mode: 'hybrid' }));
    expect([hidden.model.sharedLayers, hybrid.model.sharedLayers]).toEqual([0, undefined]);
    // What clusters of a scenario share says nothing about algorithms without them.
    const whole = { ...data, model: { ...data.model, sharedLayers: 0 } };
    const bodies = ['ifca', 'fedrep', 'ifca@1'].map((algorithm) => experimentConfig(whole, ask({ algorithm })));
    expect(bodies.map(({ model }) => model.sharedLayers)).toEqual([0, undefined, 1]);
    const alike = { ...data, participants: data.participants.map(({ group: _, ...rest }) => rest) };
    expect(() => experimentConfig(alike, ask({ mode: 'open' }))).toThrow(/"mode" expected hidden or hybrid in digits/);
  });

  it('divide slots by counted members only where members are counted', async () => {
    const data = await findScenario('digits').scenario.load(3);
    const settings = { ...settingsOf('digits'), rounds: 2, slotMean: 'counts' } as const;
    const config = experimentConfig(data, ask({ algorithm: 'ifca', settings }));
    expect(config.clusters?.denominator).toBe('counts');
    const byCounts = runExperiment(nodeCrypto, data, ask({ algorithm: 'ifca', settings, privacy: null }));
    const even = { ...settings, slotMean: 'even' } as const;
    expect(
      runExperiment(nodeCrypto, data, ask({ algorithm: 'ifca', settings: even, privacy: null })).personal.mean,
    ).not.toBe(byCounts.personal.mean);
    expect(() =>
      parseRunConfig({ ...config, clusters: { ...config.clusters, assignment: 'soft', choiceSteps: [] } }),
    ).toThrow(/"clusters.denominator" expected even where no members are counted/);
  });
});

describe('the leakage experiment', () => {
  const PARTICIPANTS = 24;
  /** Two populations of writers; where they differ, what one calls 1 the other calls 0. */
  function planted(differ: boolean): ScenarioData {
    const participants = Array.from({ length: PARTICIPANTS }, (_, i) => {
      const group = i % 2;
      const random = createRandom(11, i);
      const draw = (count: number): Dataset => {
        const features = Float32Array.from({ length: 4 * count }, () => random.uniform(-1, 1));
        const labels = Uint8Array.from({ length: count }, (_, k) => {
          const isUp = (features[4 * k] as number) > 0;
          return isUp === (differ && group === 1) ? 0 : 1;
        });
        return createDataset(4, 2, features, labels);
      };
      return { name: `writer-${i}`, group, train: draw(60), test: draw(20) };
    });
    const facts = { scenario: 'planted', seed: 11, options: {}, recordRule: true, licence: 'none' };
    return {
      participants,
      model: { inputs: 4, hidden: [], classes: 2 },
      manifest: buildScenarioManifest(nodeCrypto, facts, participants),
    };
  }
  const cluster = (data: ScenarioData): ReturnType<typeof runExperiment> =>
    runExperiment(nodeCrypto, data, {
      algorithm: 'ifca',
      options: {},
      settings: { ...settingsOf('planted'), rounds: 6, slots: 2, stepSize: 0.3, slotMean: 'counts', countNoise: 1 },
      seed: 2,
      privacy: null,
      perStep: null,
      colluders: 0,
    });

  it('finds a planted attribute in the memberships, and nothing where populations are alike', () => {
    const { slots } = cluster(planted(true));
    expect(slots?.byGroup?.flat().reduce((sum, n) => sum + n, 0)).toBe(PARTICIPANTS);
    const leak = measureLeakage(slots?.byGroup ?? []);
    expect([leak.majority, leak.leaveOneOut]).toEqual([0.5, 1]);
    expect(leak.pValue).toBe(0.001);
    expect(slots?.sizes.map(({ members }) => members.reduce((sum, n) => sum + n, 0))).toEqual(
      new Array(6).fill(PARTICIPANTS),
    );
    const alike = measureLeakage(cluster(planted(false)).slots?.byGroup ?? []);
    expect(alike.pValue).toBeGreaterThan(0.05);
    expect(alike.inference).toBeLessThan(0.75);
  });
});
