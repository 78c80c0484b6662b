import { relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { type DemoResult, runDemo } from '../experiments/demo.ts';
import type { DemoPlan } from '../experiments/demo-setup.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { CoveyError } from '../protocol/errors.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { integerIn, numberIn } from './options.ts';
import { progressLine } from './progress.ts';
import { table } from './table.ts';

interface DemoFlags {
  readonly data: string;
  readonly dataDir?: string;
  readonly seed: number;
  readonly rounds: number;
  readonly epsilon: number;
  readonly participants?: number;
  readonly model?: string;
  readonly canaries: number;
  readonly out: string;
  readonly json: boolean;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const epsilonText = (epsilon: number | null): string => (epsilon === null ? '-' : epsilon.toFixed(2));

function printResult({ folder, results, elapsedMs }: DemoResult): void {
  const rows = results.table.map((row) => [
    row.simulated ? `${row.name} *` : row.name,
    percent(row.mean),
    percent(row.worst),
    epsilonText(row.epsilonServer),
    epsilonText(row.epsilonRelease),
    row.bytesUp === null ? '-' : `${(row.bytesUp / 1e6).toFixed(1)} MB`,
  ]);
  console.log(
    `\n${table([['', 'mean', 'worst', 'epsilon (server view)', '(release view)', 'up per member'], ...rows])}`,
  );
  console.log(`\n* simulated for comparison. delta = ${results.claims.server.delta}, unit: one record.`);
  for (const sentence of results.note.split('. ')) console.log(`  ${sentence.replace(/\.?$/, '.')}`);
  console.log('\nWhat the coordinator could see:');
  for (const { slot, line } of results.clusters) console.log(`  slot ${slot + 1}: ${line}`);
  console.log('What it could not: any single contribution, any record, which organization trains which slot.');
  const path = relative(process.cwd(), folder) || folder;
  console.log(`\nRun folder: ${path} (report.html, log.jsonl, ledgers, models), ${(elapsedMs / 1_000).toFixed(0)} s`);
  console.log(`Verify it:  npm run covey -- audit verify ${path}`);
}

/** Live progress: one line that is rewritten on a terminal, a line every ten steps elsewhere. */
function createReporter(isJson: boolean): {
  progress(event: Parameters<typeof progressLine>[0]): void;
  note(text: string): void;
} {
  const live = process.stdout.isTTY && !isJson;
  const note = (text: string): void => {
    if (isJson) return;
    console.log(live ? `\r\x1b[2K${text}` : text);
  };
  return {
    note,
    progress(event) {
      if (isJson) return;
      if (event.event === 'phase') {
        if (live)
          process.stdout.write(
            `\r\x1b[2Kround ${event.round} ${event.kind} ${event.step + 1}: ${event.phase}, ${event.members} members`,
          );
        return;
      }
      if (event.event === 'joined' || event.event === 'waiting' || event.event === 'finished') return;
      const line = progressLine(event);
      if (line === null) return;
      if (event.event === 'release' && event.kind === 'train' && (event.step + 1) % 10 !== 0 && event.dropped === 0) {
        if (live) process.stdout.write(`\r\x1b[2K${line}`);
        return;
      }
      note(line);
    },
  };
}

/** The model of a file, which is refused before any process starts. */
async function modelFor(
  modelFile: string,
  scenario: DemoPlan['scenario'],
): Promise<Pick<DemoPlan, 'model' | 'modelFile'>> {
  const { shape: model } = await loadModelFile(modelFile);
  scenarioConfig(scenario, { model, seed: 1, steps: 1, targetEpsilon: 8, participants: 4 });
  return { model, modelFile };
}

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('Run a whole federation on this machine: a coordinator and organizations as processes')
    .option('--data <name>', 'digits (generated) or heart (four hospitals, needs --data-dir)', 'digits')
    .option('--data-dir <folder>', 'folder with the processed files of the UCI heart disease data')
    .option('--seed <n>', 'seed of data and starting point', integerIn(0, 0xffff_ffff), 1)
    .option('--rounds <n>', 'training steps', integerIn(1, 1_000), 80)
    .option('--epsilon <x>', 'privacy budget of one record', numberIn(0.1, 100), 8)
    .option('--participants <n>', 'organizations, 4 to 12', integerIn(4, 12))
    .option('--model <file>', 'a layers model (tfjs-layers or Keras JSON) in place of the model of the scenario')
    .option(
      '--canaries <n>',
      'mislabelled digits to plant by fair coins, for covey audit attack --run',
      integerIn(0, 700),
      0,
    )
    .option('--out <folder>', 'where run folders are written', 'runs')
    .option('--json', 'print the results as one JSON object', false)
    .addHelpText('after', '\nExample:\n  covey demo --seed 7 --epsilon 4')
    .action(async (flags: DemoFlags) => {
      if (flags.data !== 'digits' && flags.data !== 'heart') {
        throw new CoveyError('USAGE_CONFIG', `"--data" expected digits or heart, got "${flags.data}"`);
      }
      if (flags.data === 'heart' && (flags.participants ?? 4) !== 4) {
        throw new CoveyError(
          'USAGE_CONFIG',
          `"--participants" expected 4 with --data heart, got ${flags.participants}`,
        );
      }
      if (flags.data === 'heart' && flags.canaries > 0)
        throw new CoveyError('USAGE_CONFIG', `"--canaries" expected 0 with --data heart, got ${flags.canaries}`);
      const participants = flags.participants ?? (flags.data === 'heart' ? 4 : 12);
      const modelFile = flags.model === undefined ? undefined : resolve(flags.model);
      const model = modelFile === undefined ? undefined : await modelFor(modelFile, flags.data);
      const reporter = createReporter(flags.json);
      reporter.note(
        `1 coordinator, ${participants} organizations, ${flags.rounds} steps, budget epsilon ${flags.epsilon} at delta 1e-5`,
      );
      const result = await runDemo({
        scenario: flags.data,
        dataFolder: flags.data === 'heart' ? resolve(flags.dataDir ?? '../shared/data/uci-heart') : null,
        seed: flags.seed,
        steps: flags.rounds,
        targetEpsilon: flags.epsilon,
        participants,
        canaries: flags.canaries,
        ...(model === undefined ? {} : model),
        baseFolder: resolve(flags.out),
        onProgress: (event) => reporter.progress(event),
        onLoss: ({ when, step }, name) =>
          reporter.note(
            `${name} was killed in step ${step + 1}, ${when === 'before-upload' ? 'before' : 'after'} its upload`,
          ),
      });
      if (flags.json)
        console.log(
          JSON.stringify({ folder: result.folder, elapsedMs: Math.round(result.elapsedMs), ...result.results }),
        );
      else printResult(result);
    });
}
