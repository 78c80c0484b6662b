import type { Command } from 'commander';
import { ATTACK_METHODS, type AttackMethod, type AttackReport, runAttack } from '../experiments/attack.ts';
import { attackFinishedRun } from '../experiments/attacks/finished-run.ts';
import { oraclesFor } from '../experiments/oracles.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { CoveyError } from '../protocol/errors.ts';
import { integerIn, numberIn } from './options.ts';

/** Exit code of an attack whose lower bound exceeds the claim. */
const CLAIM_VIOLATED = 23;

interface AttackFlags {
  readonly method?: string;
  readonly run?: string;
  readonly seed: number;
  readonly canaries?: number;
  readonly rounds?: number;
  readonly epsilon: number;
  readonly participants: number;
  readonly model?: string;
  readonly json: boolean;
}

const DEFAULT_CANARIES: Readonly<Record<AttackMethod, number>> = {
  'one-run': 1_000,
  'two-worlds': 1_000,
  'one-shot': 40,
  membership: 200,
};

const isMethod = (text: string): text is AttackMethod => ATTACK_METHODS.some((method) => method === text);

/** Lines of at most `width` characters behind a label. */
function paragraph(label: string, text: string, width = 100): string[] {
  const lines: string[] = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) as string;
    if (last !== '' && last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.map((line, i) => `  ${(i === 0 ? label : '').padEnd(11)}${line}`);
}

const number = (value: number): string => value.toFixed(2);

function formatAttack(report: AttackReport): string {
  const { claim, confidence, epsilonLowerBound: bound, found, method, run, seed, tried, verdict } = report;
  const subject =
    run === null ? `a run simulated for it, seed ${seed} (protects nobody)` : `the finished run in ${run}`;
  const who = claim.unit === 'record' ? 'one record' : 'one participant';
  const conclusion =
    verdict === 'violated'
      ? `VIOLATED: the run leaks at least epsilon ${number(bound)} and claims ${number(claim.epsilon)}. Repeat with another seed: an honest run is accused in one of ${Math.round(1 / (1 - confidence))} audits at most; if it stays, stop releasing.`
      : `consistent: this attack does not contradict the claim. It does not prove it: a stronger attack might find more.`;
  return [
    `${method} attack on ${subject}`,
    ...paragraph('tried', tried),
    ...paragraph('found', found),
    ...paragraph(
      'bound',
      `epsilon >= ${number(bound)} with ${Math.round(100 * confidence)} % confidence${bound === 0 ? ' (nothing could be shown)' : ''}`,
    ),
    ...paragraph(
      'claim',
      `epsilon ${number(claim.epsilon)} at delta ${claim.delta}: ${who} (${claim.relation}), ${claim.view} view, ${claim.colluders} colluder${claim.colluders === 1 ? '' : 's'} assumed, ${claim.accountant} accountant`,
    ),
    ...report.assumptions.flatMap((line, i) => paragraph(i === 0 ? 'assumes' : '', `- ${line}`)),
    ...paragraph('verdict', conclusion),
  ].join('\n');
}

/** Options of a simulated run mean nothing on one that took place. */
function refuseWithRun(command: Command): void {
  for (const name of ['seed', 'canaries', 'rounds', 'epsilon', 'participants', 'model'])
    if (command.getOptionValueSource(name) === 'cli')
      throw new CoveyError(
        'USAGE_CONFIG',
        `"--${name}" expected to be left out with --run: the finished run has its own`,
      );
}

async function attack(flags: AttackFlags, command: Command): Promise<void> {
  const { epsilon, json, participants, run, seed } = flags;
  const method = flags.method ?? (run === undefined ? 'one-run' : 'membership');
  if (!isMethod(method))
    throw new CoveyError('USAGE_CONFIG', `"--method" expected ${ATTACK_METHODS.join(', ')}, got "${method}"`);
  if (run !== undefined) {
    if (method !== 'membership')
      throw new CoveyError('USAGE_CONFIG', `"--method" expected membership with --run, got "${method}"`);
    refuseWithRun(command);
    return show(await attackFinishedRun(run, nodeCrypto), json);
  }
  const model = flags.model === undefined ? undefined : (await loadModelFile(flags.model)).shape;
  const rounds = flags.rounds ?? (method === 'two-worlds' ? 1 : 16);
  const report = runAttack({
    method,
    seed,
    participants,
    canaries: flags.canaries ?? DEFAULT_CANARIES[method],
    steps: rounds,
    targetEpsilon: epsilon,
    crypto: nodeCrypto,
    ...(model === undefined ? {} : { model, createOracle: await oraclesFor(model) }),
  });
  show(report, json);
}

function show(report: AttackReport, json: boolean): void {
  console.log(json ? JSON.stringify(report) : formatAttack(report));
  if (report.verdict === 'violated') process.exitCode = CLAIM_VIOLATED;
}

export function addAttackCommand(audit: Command): void {
  audit
    .command('attack')
    .description('Attack a run with canaries and set the epsilon that it must have spent beside its claim')
    .option('--method <name>', `${ATTACK_METHODS.join(', ')} (one-run, or membership with --run)`)
    .option('--run <folder>', 'folder of a finished demo with canaries; without it a run is simulated')
    .option('--seed <n>', 'seed of data, canaries and noise', integerIn(0, 0xffff_ffff), 1)
    .option('--canaries <n>', 'canaries (1000; 40 one-shot, 200 membership)', integerIn(8, 3_000))
    .option('--rounds <n>', 'training steps (16; 1 two-worlds)', integerIn(1, 1_000))
    .option('--epsilon <x>', 'privacy budget of the attacked run', numberIn(0.1, 100), 8)
    .option('--participants <n>', 'organizations with data, 4 to 12', integerIn(4, 12), 8)
    .option('--model <file>', 'a layers model (tfjs-layers or Keras JSON) in place of the model of the digits')
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      `\nExample:\n  covey audit attack\n  covey audit attack --canaries 3000 --rounds 80 --participants 12    the whole scenario\n  covey demo --canaries 240 && covey audit attack --run runs/demo-1   a run that took place\n\nExit codes: 0 the bound is within the claim, 2 wrong usage, ${CLAIM_VIOLATED} the bound exceeds the claim`,
    )
    .action(attack);
}
