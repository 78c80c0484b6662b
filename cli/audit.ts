import type { Command } from 'commander';

export function addAuditCommand(program: Command): void {
  program.command('audit').description('Check what a run claims');
}
