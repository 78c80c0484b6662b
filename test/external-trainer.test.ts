import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type ExternalTrainerOptions, openExternalTrainer } from '../clients/trainers/external-trainer.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { createManifest, type DenseShape, denseManifest } from '../src/learning/manifest.ts';
import {
  type FitTask,
  flattenModel,
  layoutOf,
  type RecordGradientsTask,
  type Trainer,
} from '../src/learning/trainer.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { ALL_OPTIMIZERS, describeTrainer } from './support/trainer-contract.ts';
import { PROGRAM_PATH, PROGRAM_SHAPE } from './support/training-program-shape.ts';

const manifest = denseManifest(PROGRAM_SHAPE);
const data = sampleData({ manifest }, PROGRAM_SHAPE.inputs, 12, 100);

/** A busy machine takes its time to end processes. */
const PATIENCE = { timeout: 30_000 };

function program(fault: string, changes: Partial<ExternalTrainerOptions> = {}): ExternalTrainerOptions {
  return {
    manifest,
    featureLength: PROGRAM_SHAPE.inputs,
    classes: PROGRAM_SHAPE.classes,
    crypto: nodeCrypto,
    command: process.execPath,
    args: [PROGRAM_PATH, fault],
    ...changes,
  };
}

function task(trainer: Trainer, changes: Partial<FitTask> = {}): FitTask {
  return {
    layout: trainer.layout,
    parameters: flattenModel(sampleModel({ manifest: trainer.manifest }, 1)),
    data,
    epochs: 1,
    batchSize: 4,
    optimizer: { kind: 'sgd', stepSize: 0.1, momentum: 0, weightDecay: 0 },
    seed: 1,
    timeLimitMs: 60_000,
    ...changes,
  };
}

function rows(trainer: Trainer, changes: Partial<RecordGradientsTask> = {}): RecordGradientsTask {
  const { layout, parameters } = task(trainer);
  return { layout, parameters, data, records: Uint32Array.of(0, 1, 2), timeLimitMs: 60_000, ...changes };
}

async function failure(act: () => Promise<unknown>): Promise<string> {
  try {
    await act();
    return 'none';
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    expect(error.message).not.toContain('\n');
    return `${error.code} ${error.message}`;
  }
}

/** Opens a trainer, uses it, and closes it. */
async function using<T>(options: ExternalTrainerOptions, use: (trainer: Trainer) => Promise<T>): Promise<T> {
  const trainer = await openExternalTrainer(options);
  try {
    return await use(trainer);
  } finally {
    await trainer.close();
  }
}

describeTrainer('external program in JavaScript', {
  make: () => openExternalTrainer(program('none')),
  featureLength: PROGRAM_SHAPE.inputs,
  assurance: 'trusted trainer',
  accuracy: { gradient: 1e-5, derivative: 1e-4, step: 1e-3, rounding: 1e-12 },
  optimizers: ALL_OPTIMIZERS,
});

const python = ['python3', 'python'].find(
  (command) => spawnSync(command, ['-c', 'import numpy'], { stdio: 'ignore' }).status === 0,
);
const regression: DenseShape = { inputs: 11, hidden: [], classes: 4 };
const example = fileURLToPath(new URL('../examples/trainers/softmax_regression.py', import.meta.url));

function regressionProgram(): ExternalTrainerOptions {
  return program('', { manifest: denseManifest(regression), command: python ?? 'python3', args: [example] });
}

if (python === undefined) it.skip('the Python example: not tested, it needs python3 with numpy', () => {});
else {
  describeTrainer('external program in Python (examples/trainers/softmax_regression.py)', {
    make: () => openExternalTrainer(regressionProgram()),
    featureLength: regression.inputs,
    assurance: 'trusted trainer',
    accuracy: { gradient: 1e-5, derivative: 1e-4, step: 1e-3, rounding: 1e-12 },
    optimizers: ['sgd', 'momentum', 'decay'],
  });

  describe('the Python example', () => {
    it('says why it refuses a model or an optimizer', async () => {
      expect(await failure(() => openExternalTrainer({ ...regressionProgram(), manifest }))).toBe(
        'DEP_TRAINER_START the training program failed: ValueError: too many values to unpack (expected 2)',
      );
      await using(regressionProgram(), async (trainer) => {
        const adam = { kind: 'adam', stepSize: 0.1, weightDecay: 0 } as const;
        expect(await failure(() => trainer.fit(task(trainer, { optimizer: adam })))).toBe(
          'DEP_TRAINER_EXIT the training program failed: ValueError: only the optimizer sgd is known',
        );
      });
    });
  });
}

describe('a training program that breaks the agreement', () => {
  const parent = mkdtempSync(join(tmpdir(), 'covey-test-'));
  afterAll(() => {
    // Every trainer has taken its records away, whatever happened to its program.
    expect(readdirSync(parent)).toEqual([]);
    rmSync(parent, { recursive: true });
  });
  const at = (fault: string, changes: Partial<ExternalTrainerOptions> = {}): ExternalTrainerOptions =>
    program(fault, { temporaryFolder: parent, ...changes });

  it.each([
    ['fail-at-start', 'DEP_TRAINER_START the training program failed: no such model  [2J'],
    ['other-protocol', /^DEP_TRAINER_OUTPUT "ready" expected with protocol covey-trainer\/1, got/],
    ['other-layout', /^USAGE_CONFIG "layout" expected [0-9a-f]{16}, got a training program made for f{16}$/],
  ])('is not opened: %s', async (fault, expected) => {
    expect(await failure(() => openExternalTrainer(at(fault)))).toMatch(expected);
  });

  it('is not opened if it is not there, cannot be started or says nothing', async () => {
    expect(await failure(() => openExternalTrainer(at('', { command: 'covey-no-such-program' })))).toBe(
      'DEP_TRAINER_START "command" expected a program that can be started, got covey-no-such-program (ENOENT)',
    );
    expect(await failure(() => openExternalTrainer(at('', { command: 'a\0b' })))).toMatch(/^DEP_TRAINER_START /);
    expect(await failure(() => openExternalTrainer(at('', { command: parent })))).toMatch(
      /^DEP_TRAINER_START .*EACCES/,
    );
    expect(await failure(() => openExternalTrainer(at('hang-at-start', { startLimitMs: 50 })))).toBe(
      'DEP_TRAINER_TIMEOUT the training program expected to answer within 50 ms',
    );
    const reserved = createManifest([{ name: 'losses', shape: [2], group: 'head' }]);
    expect(await failure(() => openExternalTrainer(at('', { manifest: reserved })))).toMatch(/^USAGE_CONFIG "tensors"/);
  });

  it('is started without a shell', async () => {
    const command = `${process.execPath} ${PROGRAM_PATH}; echo`;
    expect(await failure(() => openExternalTrainer(at('', { command, args: [] })))).toMatch(/^DEP_TRAINER_START /);
  });

  it.each([
    ['crash', 'DEP_TRAINER_EXIT the training program ended (exit code 3)'],
    ['killed', 'DEP_TRAINER_EXIT the training program ended (SIGKILL)'],
    ['half-line-then-exit', 'DEP_TRAINER_EXIT the training program ended (exit code 0)'],
    ['fail', 'DEP_TRAINER_EXIT the training program failed: out of memory at line 3'],
    ['garbage', /^DEP_TRAINER_OUTPUT .* a line that is no JSON to standard output; logs belong on standard error$/],
    ['no-utf8', /^DEP_TRAINER_OUTPUT .* a line that is no JSON/],
    ['list', 'DEP_TRAINER_OUTPUT the training program answered with something else than a JSON object'],
    ['endless-line', 'DEP_TRAINER_OUTPUT the training program wrote a line of more than 65536 bytes'],
    ['long-line', 'DEP_TRAINER_OUTPUT the training program wrote a line of more than 65536 bytes'],
    ['wrong-id', 'DEP_TRAINER_OUTPUT "id" expected 1, got 2'],
    ['wrong-type', 'DEP_TRAINER_OUTPUT "type" expected fitted, got gradients'],
    ['no-file', 'DEP_TRAINER_OUTPUT "result" expected a file that the training program wrote'],
    ['folder-as-result', 'DEP_TRAINER_OUTPUT "result" expected a plain file'],
    ['cut-file', /^DEP_TRAINER_OUTPUT "result" expected safetensors: /],
    ['large-file', /^DEP_TRAINER_OUTPUT "result" expected at most \d+ bytes, got 2097152$/],
    ['wrong-shape', /^DEP_TRAINER_OUTPUT "result": "tensors" expected 4 tensors/],
    ['more-examples', 'DEP_TRAINER_OUTPUT "numExamples" expected 0 to 12, got 13'],
    ['bad-metrics', /^DEP_TRAINER_OUTPUT "metrics" expected names of letters with finite numbers, got a b$/],
    ['text-metrics', /^DEP_TRAINER_OUTPUT "metrics" expected names of letters with finite numbers, got loss$/],
    ['nan', 'USAGE_DIVERGED "parameters" expected finite numbers after training'],
  ])('fails the task with one line: %s', async (fault, expected) => {
    await using(at(fault), async (trainer) => {
      expect(await failure(() => trainer.fit(task(trainer)))).toMatch(expected);
    });
  });

  it.each(['crash', 'garbage'])('is started anew for the next task: %s', async (fault) => {
    await using(at(fault), async (trainer) => {
      const first = await failure(() => trainer.fit(task(trainer)));
      expect(first).toMatch(/^DEP_TRAINER_/);
      // The new program behaves as the first one did.
      expect(await failure(() => trainer.fit(task(trainer)))).toBe(first);
    });
  });

  it('is killed at the time limit of the task, even if it ignores the request to end', async () => {
    await using(at('hang'), async (trainer) => {
      expect(await failure(() => trainer.fit(task(trainer, { timeLimitMs: 300 })))).toMatch(
        /^DEP_TRAINER_TIMEOUT the training program expected to answer within \d+ ms$/,
      );
      // The time of a task that waits for another one runs too.
      const first = failure(() => trainer.fit(task(trainer, { timeLimitMs: 400 })));
      const second = failure(() => trainer.fit(task(trainer, { timeLimitMs: 100 })));
      expect(await first).toMatch(/^DEP_TRAINER_TIMEOUT /);
      expect(await second).toBe('DEP_TRAINER_TIMEOUT training expected an end within 100 ms');
    });
  });

  it('fails its task when it is closed', async () => {
    const trainer = await openExternalTrainer(at('hang'));
    const running = failure(() => trainer.fit(task(trainer)));
    const waiting = failure(() => trainer.fit(task(trainer)));
    await trainer.close();
    expect(await running).toMatch(/^USAGE_STATE /);
    expect(await waiting).toBe('USAGE_STATE the trainer is closed');
  });

  it('takes what it started with it', async () => {
    const trainer = await openExternalTrainer(at('grandchild'));
    const said = await failure(() => trainer.fit(task(trainer)));
    const pid = Number(/failed: (\d+)$/.exec(said)?.[1]);
    expect(isRunning(pid)).toBe(true);
    await trainer.close();
    await vi.waitFor(() => expect(isRunning(pid)).toBe(false), PATIENCE);
  });

  it('ends with this process, and so does the folder, even if nobody closes it', async () => {
    const built = (path: string): string => JSON.stringify(new URL(`../dist/${path}`, import.meta.url));
    const script = `
      import { openExternalTrainer } from ${built('clients/trainers/external-trainer.js')};
      import { nodeCrypto } from ${built('platform/node/crypto.js')};
      import { denseManifest } from ${built('src/learning/manifest.js')};
      const shape = ${JSON.stringify(PROGRAM_SHAPE)};
      await openExternalTrainer({
        manifest: denseManifest(shape), featureLength: shape.inputs, classes: shape.classes, crypto: nodeCrypto,
        command: process.execPath, args: [${JSON.stringify(PROGRAM_PATH)}, 'say-pid'],
        temporaryFolder: ${JSON.stringify(parent)},
        onLog: (line) => { console.log(line); process.exit(0); },
      });`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect([stderr, readdirSync(parent)]).toEqual(['', []]);
    expect(stdout).toMatch(/^[0-9]+\n$/);
    await vi.waitFor(() => expect(isRunning(Number(stdout))).toBe(false), PATIENCE);
  });

  it('sees none of the variables of the site', async () => {
    process.env['COVEY_TEST_KEY'] = 'secret';
    try {
      await using(at('environment', { environment: { OMP_NUM_THREADS: '1' } }), async (trainer) => {
        const said = await failure(() => trainer.fit(task(trainer)));
        expect(said).toContain('OMP_NUM_THREADS PATH');
        expect(said).not.toContain('COVEY_TEST_KEY');
      });
    } finally {
      delete process.env['COVEY_TEST_KEY'];
    }
  });

  it('may write any amount to standard error, which is handed on in lines of bounded length', async () => {
    const lines: number[] = [];
    await using(at('loud', { onLog: (line) => lines.push(line.length) }), async (trainer) => {
      expect((await trainer.fit(task(trainer))).numExamples).toBe(12);
      await vi.waitFor(() => expect(lines.length).toBe(2_000), PATIENCE);
    });
    expect(Math.max(...lines)).toBe(1_000);
  });

  it('must not speak unasked: the next task notices', async () => {
    await using(at('second-answer'), async (trainer) => {
      expect((await trainer.fit(task(trainer))).numExamples).toBe(12);
      expect(await failure(() => trainer.fit(task(trainer)))).toMatch(/^DEP_TRAINER_OUTPUT /);
    });
  });

  it('may end after an answer, which counts', async () => {
    await using(at('exit-after-answer'), async (trainer) => {
      expect((await trainer.fit(task(trainer))).numExamples).toBe(12);
    });
  });

  it('is refused rows that are too few', async () => {
    await using(at('missing-row'), async (trainer) => {
      expect(await failure(() => trainer.recordGradients(rows(trainer)))).toBe(
        'DEP_TRAINER_OUTPUT "dense_1/kernel" expected shape 3 x 11 x 9, got 2 x 11 x 9',
      );
    });
  });
});

/** Whether a process computes; one that has ended but was not collected does not. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    if (process.platform !== 'linux') return true;
    return !/^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

describe('layouts', () => {
  let trainer: Trainer;
  beforeAll(async () => {
    trainer = await openExternalTrainer(program('none'));
  });
  afterAll(() => trainer.close());

  it('are told apart by the hash of the manifest, even with as many parameters', async () => {
    const layers = denseManifest(PROGRAM_SHAPE).tensors;
    const [kernel, bias, ...rest] = layers as [(typeof layers)[number], (typeof layers)[number]];
    const variants = {
      'another cut': denseManifest({ ...PROGRAM_SHAPE, sharedLayers: 0 }),
      'another order': createManifest([bias, kernel, ...rest]),
      'another name': createManifest([{ ...kernel, name: 'kernel' }, bias, ...rest]),
      'another shape': createManifest([{ ...kernel, shape: [9, 11] }, bias, ...rest]),
    };

    for (const [name, other] of Object.entries(variants)) {
      expect(other.bodyLength + other.headLength).toBe(manifest.bodyLength + manifest.headLength);
      const layout = layoutOf(nodeCrypto, other);
      expect([name, await failure(() => trainer.fit(task(trainer, { layout })))]).toEqual([
        name,
        `USAGE_CONFIG "layout" expected parameters of ${trainer.layout.slice(0, 16)}, got those of ${layout.slice(0, 16)}`,
      ]);
      expect(await failure(() => trainer.recordGradients(rows(trainer, { layout })))).toMatch(/^USAGE_CONFIG "layout"/);
      // Neither does the program of one layout serve another.
      expect(await failure(() => openExternalTrainer(program('none', { manifest: other })))).toMatch(
        /^USAGE_CONFIG "layout" expected/,
      );
    }
  });
});
