import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSignedCharges } from '../clients/node/signed-charges.ts';
import { writeBundle } from '../server/bundle.ts';
import type { RunResults } from '../src/audit/results.ts';
import type { DemoFiles } from './demo-setup.ts';

/**
 * Puts the bundle of a demo run together, with the ledger of every organization as it stands in its store: also of one that
 * vanished. Returns the folder of the bundle.
 */
export async function writeRunFolder(files: DemoFiles, results: RunResults): Promise<string> {
  const out = join(files.folder, 'bundle');
  const exported = join(files.folder, 'coordinator', 'run');
  const log = await readFile(join(exported, 'log.jsonl'), 'utf8');
  const { run } = JSON.parse(log.slice(0, log.indexOf('\n'))) as { readonly run: string };
  const ledgers = new Map<string, string>();
  for (const { id, state } of files.organizations)
    ledgers.set(id, (await readSignedCharges(state)).get(run)?.lines ?? '');
  await writeBundle({
    exported,
    federation: join(files.folder, 'federation.json'),
    ledgers,
    results,
    out,
    identity: { publicKey: files.coordinatorKey, secretSeed: files.coordinatorSeed },
  });
  return out;
}
