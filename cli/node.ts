import type { Command } from 'commander';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { baseOf, runNode } from '../clients/node/index.ts';
import { loadConfig } from '../platform/node/config.ts';
import { configHelp } from '../platform/node/config-help.ts';
import { CoveyError } from '../protocol/errors.ts';

/** A drill: this process kills itself, as a power cut would, at a training step before or after its upload. */
function parseDrill(text: string): (moment: string, step: number) => void {
  const [step, moment] = text.split(':');
  if (!/^\d+$/.test(step ?? '') || (moment !== 'before-upload' && moment !== 'after-upload')) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"--kill-at" expected <step>:before-upload or <step>:after-upload, got "${text}"`,
    );
  }
  return (now, at) => {
    if (now === moment && at === Number(step)) process.kill(process.pid, 'SIGKILL');
  };
}

export function addNodeCommand(program: Command): void {
  program
    .command('node')
    .description("Run one organization's node")
    .requiredOption('--config <file>', 'node.yaml')
    .option('--evaluate', 'follow the accuracy on the own test records (stays in the state folder)', false)
    .option('--json', 'print one JSON object a line instead of text', false)
    .option('--kill-at <step:moment>', 'drill: die at a training step, before-upload or after-upload')
    .addHelpText(
      'after',
      () => `\n${configHelp('node.yaml', nodeConfigSchema)}\n\nExample:\n  covey node --config node.yaml`,
    )
    .action(async (options: { config: string; evaluate: boolean; json: boolean; killAt?: string }) => {
      const config = await loadConfig(options.config, nodeConfigSchema);
      const say = (line: Record<string, unknown>, text: string): void =>
        console.log(options.json ? JSON.stringify(line) : text);
      await runNode({
        base: baseOf(options.config),
        config,
        evaluate: options.evaluate,
        ...(options.killAt === undefined ? {} : { drill: parseDrill(options.killAt) }),
        onProgress(progress) {
          if (progress.event === 'charged') {
            say(
              { event: 'charged', epsilon: progress.epsilon },
              `epsilon so far ${progress.epsilon.toFixed(3)} of ${progress.maxEpsilon}`,
            );
          } else if (progress.event === 'further-run') {
            const { runs, budget } = progress;
            say(
              { event: 'further-run', runs, epsilon: budget.epsilon, delta: budget.delta },
              `run ${runs} on the data of this site: each may cost epsilon ${budget.epsilon} at delta ${budget.delta}, all together ${runs} times both (policy.datasetBudget would limit the sum)`,
            );
          } else if (progress.event === 'left') {
            const { kind, step } = progress.session;
            say(
              { event: 'left', code: progress.code, kind, step },
              `left the run before ${kind} ${step + 1}, the others go on: ${progress.reason} [${progress.code}]; waiting for the final models`,
            );
          } else if (progress.event === 'aborted') {
            say({ event: 'aborted', code: progress.code }, `session given up: ${progress.reason} [${progress.code}]`);
          } else if (progress.event === 'finished') {
            say({ event: 'finished' }, 'finished; the personal model is in the state folder');
          }
        },
        onState: (text) => say({ event: 'state', text }, text),
      });
    });
}
