import type { Command } from 'commander';
import { addAttackCommand } from './audit-attack.ts';
import { addExportCommands } from './audit-export.ts';
import { addVerifyCommand } from './audit-verify.ts';

export function addAuditCommand(program: Command): void {
  const audit = program.command('audit').description('Check what a run claims');
  addAttackCommand(audit);
  addExportCommands(audit);
  addVerifyCommand(audit);
}
