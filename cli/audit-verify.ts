import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { listFiles } from '../platform/node/list-files.ts';
import { fromHex } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { AUDIT_EXIT_CODES, formatAudit, verifyBundle } from '../src/audit/index.ts';

interface VerifyFlags {
  readonly key?: string;
  readonly json: boolean;
}

/** Verifies a bundle and prints what was proved; the exit code is that of the first failure. */
export async function auditFolder(folder: string, flags: VerifyFlags): Promise<void> {
  if (flags.key !== undefined && !/^[0-9a-f]{64}$/.test(flags.key)) {
    throw new CoveyError('USAGE_CONFIG', `"--key" expected 64 hex digits, got "${flags.key}"`);
  }
  try {
    await listFiles(folder);
  } catch (cause) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"folder" expected a run folder, got ${folder}; hint: covey demo prints its path`,
      {},
      { cause },
    );
  }
  const reader = {
    list: () => listFiles(folder),
    read: async (path: string) => new Uint8Array(await readFile(join(folder, path))),
  };
  const report = await verifyBundle(
    reader,
    nodeCrypto,
    flags.key === undefined ? {} : { pinnedCoordinatorKey: fromHex(flags.key) },
  );
  console.log(flags.json ? JSON.stringify(report) : formatAudit(report));
  process.exitCode = report.exitCode;
}

export function addVerifyCommand(audit: Command): void {
  const codes = Object.entries(AUDIT_EXIT_CODES)
    .map(([name, code]) => `${code} ${name}`)
    .join(', ');
  audit
    .command('verify')
    .description('Recompute hashes, signatures, rules and epsilon of a run folder, offline')
    .argument('<folder>', 'run folder (bundle)')
    .option('--key <hex>', 'public key of the coordinator, known from elsewhere')
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      `\nExample:\n  covey audit verify runs/demo-1/bundle\n\nExit codes: 0 every check held; first failure: ${codes}`,
    )
    .action(auditFolder);
}
