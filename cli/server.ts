import type { Command } from 'commander';
import { loadConfig } from '../platform/node/config.ts';
import { configHelp } from '../platform/node/config-help.ts';
import { serverConfigSchema } from '../server/config.ts';
import { baseOf, runServer } from '../server/index.ts';
import { progressLine } from './progress.ts';

export function addServerCommand(program: Command): void {
  program
    .command('server')
    .description('Run the coordinator of a federation')
    .requiredOption('--config <file>', 'covey.yaml')
    .option('--json', 'print one JSON object a line instead of text', false)
    .addHelpText(
      'after',
      () =>
        `\n${configHelp('covey.yaml', serverConfigSchema)}\n\nExample:\n  covey server --config covey.yaml\n  run: { scenario: digits, algorithm: { id: fedavg }, model: { file: model.json } }   (docs/models.md)`,
    )
    .action(async (options: { config: string; json: boolean }) => {
      const config = await loadConfig(options.config, serverConfigSchema);
      await runServer({
        base: baseOf(options.config),
        config,
        onProgress(progress) {
          const line = options.json ? JSON.stringify(progress) : progressLine(progress);
          if (line !== null) console.log(line);
        },
        onListening(port) {
          if (!options.json) console.log(`listening on port ${port}`);
        },
        onError(error) {
          console.error(`covey: ${error instanceof Error ? error.message : 'an unexpected fault'}`);
        },
      });
    });
}
