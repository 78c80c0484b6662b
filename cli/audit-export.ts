import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { nodeConfigSchema } from '../clients/node/config.ts';
import { baseOf, readFederation } from '../clients/node/index.ts';
import { readSignedCharges } from '../clients/node/signed-charges.ts';
import { createFileAtomic } from '../platform/node/atomic-file.ts';
import { loadConfig } from '../platform/node/config.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { readKeyFile } from '../platform/node/key-file.ts';
import { equalBytes } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { writeBundle } from '../server/bundle.ts';
import { serverConfigSchema } from '../server/config.ts';
import { resultsOfLog } from '../src/audit/index.ts';
import { auditFolder } from './audit-verify.ts';

/** Who signed the charges of a file. @throws CoveyError USAGE_CONFIG */
function signerOf(text: string, path: string): string {
  try {
    const { actor } = JSON.parse(text.slice(0, text.indexOf('\n'))) as { readonly actor?: unknown };
    if (typeof actor === 'string' && /^[0-9a-f]{64}$/.test(actor)) return actor;
  } catch {
    // Said below.
  }
  throw new CoveyError(
    'USAGE_CONFIG',
    `"--ledgers" expected signed charges of a member in ${path}; hint: covey audit ledger writes them`,
  );
}

/** Ledgers that members handed over, by member. @throws CoveyError USAGE_CONFIG */
async function readLedgers(folder: string): Promise<ReadonlyMap<string, string>> {
  const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    throw new CoveyError('USAGE_CONFIG', `"--ledgers" expected a folder, got ${cause.code} for ${folder}`);
  });
  const ledgers = new Map<string, string>();
  for (const name of names.filter((file) => file.endsWith('.jsonl')).sort()) {
    const path = join(folder, name);
    const text = await readFile(path, 'utf8');
    const member = signerOf(text, path);
    if (ledgers.has(member))
      throw new CoveyError(
        'USAGE_CONFIG',
        `"--ledgers" expected one file a member, got another one of ${member} in ${path}`,
      );
    ledgers.set(member, text);
  }
  return ledgers;
}

interface ExportFlags {
  readonly config: string;
  readonly out: string;
  readonly ledgers?: string;
  readonly json: boolean;
}

/** The bundle of a coordinator's run, checked as an auditor would check it. */
async function exportBundle({ config: path, json, ledgers, out }: ExportFlags): Promise<void> {
  const config = await loadConfig(path, serverConfigSchema);
  const at = (name: string): string => resolve(baseOf(path), name);
  const federation = await readFederation(at(config.federation));
  const secretSeed = await readKeyFile(at(config.key));
  const publicKey = nodeCrypto.ed25519PublicKey(secretSeed);
  if (!equalBytes(publicKey, federation.coordinatorKey))
    throw new CoveyError('USAGE_CONFIG', '"key" expected the coordinator key of the federation file, got another key');
  const exported = join(at(config.state), 'run');
  const log = await readFile(join(exported, 'log.jsonl')).catch((cause: unknown) => {
    throw new CoveyError(
      'USAGE_STATE',
      `"state" expected a run that ended, got no log in ${exported}; hint: covey server writes it at the end of a run`,
      {},
      { cause },
    );
  });
  await writeBundle({
    exported,
    federation: at(config.federation),
    ledgers: ledgers === undefined ? new Map() : await readLedgers(ledgers),
    results: resultsOfLog(new Uint8Array(log), nodeCrypto),
    out,
    identity: { publicKey, secretSeed },
  });
  await auditFolder(out, { json });
  if (json) return;
  console.log(`Bundle: ${out} (report.html, log.jsonl, models${ledgers === undefined ? '' : ', ledgers'})`);
}

interface LedgerFlags {
  readonly config: string;
  readonly out: string;
  readonly run?: string;
  readonly json: boolean;
}

/** A member's own signed charges, for whoever puts the bundle together. */
async function exportLedger({ config: path, json, out, run }: LedgerFlags): Promise<void> {
  const config = await loadConfig(path, nodeConfigSchema);
  const charges = await readSignedCharges(resolve(baseOf(path), config.state));
  const runs = [...charges].filter(([, { member }]) => member !== null).map(([id]) => id);
  const chosen = run ?? (runs.length === 1 ? runs[0] : undefined);
  const found = chosen === undefined ? undefined : charges.get(chosen);
  if (found === undefined || found.member === null)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"--run" expected ${runs.length === 0 ? 'a run that charged this node, and there is none' : `one of ${runs.join(', ')}`}, got ${run ?? 'none'}`,
    );
  await createFileAtomic(out, found.lines).catch((cause: NodeJS.ErrnoException) => {
    throw new CoveyError('USAGE_STATE', `"--out" expected a new file, got ${cause.code} for ${out}`, {}, { cause });
  });
  const count = found.lines.split('\n').length - 1;
  if (json) console.log(JSON.stringify({ run: chosen, member: found.member, charges: count, file: out }));
  else console.log(`${count} signed charges of ${found.member.slice(0, 12)} in run ${chosen}: ${out}`);
}

export function addExportCommands(audit: Command): void {
  audit
    .command('export')
    .description('Write the bundle of a run that ended: report, signed log, models, released sums; then verify it')
    .requiredOption('--config <file>', 'covey.yaml of the coordinator')
    .requiredOption('--out <folder>', 'folder of the bundle: new or empty')
    .option('--ledgers <folder>', 'signed charges that members gave (covey audit ledger), as .jsonl files')
    .option('--json', 'print what was verified as one JSON object', false)
    .addHelpText(
      'after',
      '\nExample:\n  covey audit export --config covey.yaml --ledgers ledgers --out bundle\n\nThe bundle shows what the coordinator saw; it holds no record, no single contribution and no key.',
    )
    .action(exportBundle);
  audit
    .command('ledger')
    .description("Write a node's signed charges of a run, for the bundle")
    .requiredOption('--config <file>', 'node.yaml of the site')
    .requiredOption('--out <file>', 'new file')
    .option('--run <id>', 'run, where the node took part in several')
    .option('--json', 'print one JSON object', false)
    .addHelpText('after', '\nExample:\n  covey audit ledger --config node.yaml --out hospital-a.jsonl')
    .action(exportLedger);
}
