import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { systemClock } from '../../platform/node/clock.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { encodeModel, tensorsToModel } from '../../src/learning/model-files.ts';
import { createOracleTrainer } from '../../src/learning/oracle-trainer.ts';
import { decodeSafetensors, encodeSafetensors } from '../../src/learning/safetensors.ts';
import { flattenModel, splitModel } from '../../src/learning/trainer.ts';
import { PROGRAM_SHAPE } from './training-program-shape.ts';

/**
 * A training program as a site would write one, around the dense oracle; its argument makes it break the agreement in
 * one way. Started by tests from the build, never imported.
 */
type Task = Record<string, unknown> & {
  readonly type: string;
  readonly id?: number;
  readonly parameters: string;
  readonly data: string;
  readonly records: string;
  readonly result: string;
};
type Fit = Parameters<ReturnType<typeof createOracleTrainer>['fit']>[0];

const fault = process.argv[2] ?? 'none';
if (fault === 'say-pid') process.stderr.write(`${process.pid}\n`);
const oracle = createDenseOracle(PROGRAM_SHAPE);
const { inputs: featureLength, classes } = PROGRAM_SHAPE;
const trainer = createOracleTrainer(oracle, {
  crypto: nodeCrypto,
  featureLength,
  classes,
  monotonicMs: systemClock.monotonicMs,
});
const read = (path: string): ReturnType<typeof decodeSafetensors>['tensors'] =>
  decodeSafetensors(readFileSync(path)).tensors;
const say = (answer: object): void => {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
};

function dataOf(path: string): Dataset {
  const [features, labels] = read(path);
  return {
    count: labels?.values.length ?? 0,
    featureLength,
    classes,
    features: Float32Array.from(features?.values ?? []),
    labels: Uint8Array.from(labels?.values ?? []),
  };
}

async function train(task: Task): Promise<object> {
  const parameters = flattenModel(tensorsToModel(trainer.manifest, read(task.parameters)));
  const data = dataOf(task.data);
  const { epochs, batchSize, optimizer, seed } = task as unknown as Fit;
  const result = await trainer
    .fit({ layout: trainer.layout, parameters, data, epochs, batchSize, optimizer, seed, timeLimitMs: 60_000 })
    // Its own check would hide what the caller must notice.
    .catch(() => ({ parameters: parameters.map(() => Number.NaN), numExamples: data.count, metrics: {} }));
  if (fault === 'nan') result.parameters[3] = Number.NaN;
  const bytes = encodeModel(trainer.manifest, splitModel(trainer.manifest, result.parameters));
  if (fault === 'folder-as-result') mkdirSync(task.result);
  else if (fault === 'cut-file') writeFileSync(task.result, bytes.subarray(0, bytes.length - 4));
  else if (fault === 'large-file') writeFileSync(task.result, new Uint8Array(2 ** 21));
  else if (fault === 'wrong-shape')
    writeFileSync(task.result, encodeSafetensors([{ name: 'a', shape: [2], values: Float32Array.of(1, 2) }]));
  else if (fault !== 'no-file') writeFileSync(task.result, bytes);
  const numExamples = fault === 'more-examples' ? data.count + 1 : result.numExamples;
  const metrics = fault === 'bad-metrics' ? { 'a\nb': 1 } : fault === 'text-metrics' ? { loss: 'low' } : result.metrics;
  return { type: 'fitted', numExamples, metrics };
}

async function recordGradients(task: Task): Promise<object> {
  const records = Uint32Array.from(read(task.records)[0]?.values ?? []);
  const parameters = flattenModel(tensorsToModel(trainer.manifest, read(task.parameters)));
  const { losses, gradients } = await trainer.recordGradients({
    layout: trainer.layout,
    parameters,
    data: dataOf(task.data),
    records,
    timeLimitMs: 60_000,
  });
  // Body before head, as they stand in the manifest of a perceptron.
  let at = 0;
  const length = records.length === 0 ? 0 : gradients.length / records.length;
  const tensors = trainer.manifest.tensors.map(({ name, shape }) => {
    const size = shape.reduce((product, n) => product * n, 1);
    const values = Float32Array.from({ length: records.length * size }, (_, i) => {
      return gradients[Math.floor(i / size) * length + at + (i % size)] as number;
    });
    at += size;
    return { name, shape: [records.length, ...shape], values };
  });
  if (fault === 'missing-row')
    tensors[0] = {
      ...tensors[0]!,
      shape: [records.length - 1, ...tensors[0]!.shape.slice(1)],
      values: tensors[0]!.values.slice(featureLength * 9),
    };
  writeFileSync(
    task.result,
    encodeSafetensors([{ name: 'losses', shape: [records.length], values: losses }, ...tensors]),
  );
  return { type: 'gradients' };
}

async function answer(task: Task): Promise<void> {
  const { id } = task;
  if (task.type === 'hello') {
    if (fault === 'hang-at-start') return;
    if (fault === 'fail-at-start') return say({ type: 'failed', message: 'no such\nmodel \u001b[2J' });
    const layout = fault === 'other-layout' ? 'f'.repeat(64) : trainer.layout;
    return say({ type: 'ready', protocol: fault === 'other-protocol' ? 'covey-trainer/9' : 'covey-trainer/1', layout });
  }
  switch (fault) {
    case 'hang':
      process.on('SIGTERM', () => undefined);
      return;
    case 'crash':
      return process.exit(3);
    case 'killed':
      return void process.kill(process.pid, 'SIGKILL');
    case 'garbage':
      return void process.stdout.write('Using device cuda\n');
    case 'no-utf8':
      return void process.stdout.write(Uint8Array.of(0x22, 0xff, 0x22, 10));
    case 'list':
      return void process.stdout.write('[1]\n');
    case 'endless-line':
      return void setInterval(() => process.stdout.write('x'.repeat(50_000)), 1);
    case 'long-line':
      return void process.stdout.write(`{"a":"${'x'.repeat(70_000)}"}\n`);
    case 'wrong-id':
      return say({ type: 'fitted', id: (id ?? 0) + 1 });
    case 'wrong-type':
      return say({ type: 'gradients', id });
    case 'fail':
      return say({ type: 'failed', id, message: 'out of memory\nat line 3' });
    case 'half-line-then-exit':
      process.stdout.write('{"type":"fit');
      return process.exit(0);
    case 'grandchild': {
      const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
      return say({ type: 'failed', id, message: String(child.pid) });
    }
    case 'environment':
      return say({ type: 'failed', id, message: Object.keys(process.env).sort().join(' ') });
  }
  if (fault === 'loud') for (let i = 0; i < 2_000; i++) process.stderr.write(`${'e'.repeat(5_000)}\n`);
  say({ id, ...(await (task.type === 'fit' ? train(task) : recordGradients(task))) });
  if (fault === 'second-answer') say({ id });
  if (fault === 'exit-after-answer') process.exit(0);
}

for await (const line of createInterface({ input: process.stdin })) await answer(JSON.parse(line) as Task);
