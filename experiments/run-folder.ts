import { copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chargeStream } from '../clients/core/charge-book.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { listFiles } from '../platform/node/list-files.ts';
import { openStore } from '../platform/node/store.ts';
import { fromUtf8, toHex } from '../protocol/bytes.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { logOrigin } from '../src/audit/checkpoint.ts';
import { reportFacts } from '../src/audit/facts.ts';
import { renderReport } from '../src/audit/report.ts';
import type { RunResults } from '../src/audit/results.ts';
import { signNote } from '../src/audit/signed-note.ts';
import type { DemoFiles } from './demo-setup.ts';

/** Own ledger of a node, as it stands in its store: also of a node that vanished. */
async function readLedger(state: string, runId: string): Promise<string> {
  const store = await openStore(join(state, 'node.sqlite'));
  try {
    return (await store.read(chargeStream(runId))).map(({ payload }) => `${fromUtf8(payload)}\n`).join('');
  } finally {
    await store.close();
  }
}

/**
 * Puts the bundle of a demo run together: the coordinator's export, every organization's ledger, results, report, and the
 * signed manifest over all of it. Returns the folder of the bundle.
 */
export async function writeRunFolder(files: DemoFiles, results: RunResults): Promise<string> {
  const folder = join(files.folder, 'bundle');
  await cp(join(files.folder, 'coordinator', 'run'), folder, { recursive: true });
  await mkdir(join(folder, 'ledgers'), { recursive: true });
  const log = await readFile(join(folder, 'log.jsonl'), 'utf8');
  const { run: runId, federation } = JSON.parse(log.slice(0, log.indexOf('\n'))) as { run: string; federation: string };
  for (const { id, state } of files.organizations)
    await writeFile(join(folder, 'ledgers', `${id}.jsonl`), await readLedger(state, runId));
  await copyFile(join(files.folder, 'federation.json'), join(folder, 'federation.json'));
  await writeFile(join(folder, 'results.json'), `${canonicalJson(results)}\n`);
  await writeFile(join(folder, 'report.html'), renderReport(reportFacts(log, results, nodeCrypto)));
  const hashes: Record<string, string> = {};
  for (const path of await listFiles(folder))
    hashes[path] = toHex(nodeCrypto.sha256(new Uint8Array(await readFile(join(folder, path)))));
  const manifest = `${canonicalJson({ files: hashes })}\n`;
  await writeFile(join(folder, 'manifest.json'), manifest);
  const key = { name: logOrigin(federation, runId), publicKey: files.coordinatorKey };
  await writeFile(join(folder, 'manifest.note'), signNote(manifest, key, files.coordinatorSeed, nodeCrypto));
  return folder;
}
