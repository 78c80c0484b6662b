import type { Command } from 'commander';
import { ATTACK_METHODS, type AttackMethod, type AttackReport, runAttack } from '../experiments/attack.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { CoveyError } from '../protocol/errors.ts';
import { integerIn, numberIn } from './options.ts';

/** Exit code of an attack whose lower bound exceeds the claim. */
const CLAIM_VIOLATED = 23;

interface AttackFlags {
  readonly method: string;
  readonly seed: number;
  readonly canaries?: number;
  readonly rounds: number;
  readonly epsilon: number;
  readonly participants: number;
  readonly json: boolean;
}

const DEFAULT_CANARIES: Readonly<Record<AttackMethod, number>> = {
  'one-run': 1_000,
  'two-worlds': 1_000,
  'one-shot': 40,
  membership: 200,
};

const isMethod = (text: string): text is AttackMethod => ATTACK_METHODS.some((method) => method === text);

function formatAttack({
  assumptions,
  canaries,
  claim,
  confidence,
  epsilonLowerBound,
  evidence,
  method,
  seed,
  verdict,
}: AttackReport): string {
  const { accountant, colluders, delta, epsilon, relation, unit, view } = claim;
  return [
    `${method} audit, ${canaries} canaries, seed ${seed} (a simulated run: not private)`,
    `  claimed      epsilon ${epsilon.toFixed(4)} at delta ${delta}`,
    `               unit ${unit}, relation ${relation}, ${view} view, ${colluders} colluders, accountant ${accountant}`,
    `  measured     epsilon >= ${epsilonLowerBound.toFixed(4)} with confidence ${confidence}`,
    `  evidence     ${Object.entries(evidence)
      .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
      .join(', ')}`,
    ...assumptions.map((line, i) => `  ${i === 0 ? 'assumes' : '       '}      ${line}`),
    verdict === 'violated'
      ? '  verdict      VIOLATED: the run leaks more than it claims'
      : '  verdict      consistent: this attack does not contradict the claim, and proves nothing more',
  ].join('\n');
}

function attack(flags: AttackFlags): void {
  const { epsilon, json, method, participants, rounds, seed } = flags;
  if (!isMethod(method))
    throw new CoveyError('USAGE_CONFIG', `"--method" expected ${ATTACK_METHODS.join(', ')}, got "${method}"`);
  const report = runAttack({
    method,
    seed,
    participants,
    canaries: flags.canaries ?? DEFAULT_CANARIES[method],
    steps: rounds,
    targetEpsilon: epsilon,
    crypto: nodeCrypto,
  });
  console.log(json ? JSON.stringify(report) : formatAttack(report));
  if (report.verdict === 'violated') process.exitCode = CLAIM_VIOLATED;
}

export function addAttackCommand(audit: Command): void {
  audit
    .command('attack')
    .description('Attack a run of the digits scenario with canaries and set the lower bound beside its claim')
    .option('--method <name>', `${ATTACK_METHODS.join(', ')}`, 'one-run')
    .option('--seed <n>', 'seed of data, canaries and noise', integerIn(0, 0xffff_ffff), 1)
    .option('--canaries <n>', 'canaries (1000 one-run, 40 one-shot, 200 membership)', integerIn(8, 3_000))
    .option('--rounds <n>', 'training steps', integerIn(1, 1_000), 16)
    .option('--epsilon <x>', 'privacy budget of the attacked run', numberIn(0.1, 100), 8)
    .option('--participants <n>', 'organizations with data, 4 to 12', integerIn(4, 12), 8)
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      `\nExample:\n  covey audit attack\n  covey audit attack --canaries 3000 --rounds 80 --participants 12    the whole scenario\n\nExit codes: 0 the bound is within the claim, 2 wrong usage, ${CLAIM_VIOLATED} the bound exceeds the claim`,
    )
    .action(attack);
}
