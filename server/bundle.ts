import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { listFiles } from '../platform/node/list-files.ts';
import { toHex } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { logOrigin } from '../src/audit/checkpoint.ts';
import { reportFacts } from '../src/audit/facts.ts';
import { renderReport } from '../src/audit/report.ts';
import type { RunResults } from '../src/audit/results.ts';
import { signNote } from '../src/audit/signed-note.ts';

/** What an auditor gets, from where it lies. */
export interface BundleParts {
  /** The coordinator's export of the run. */
  readonly exported: string;
  readonly federation: string;
  /** The signed charges of members that gave them, by id, lines with their ends. */
  readonly ledgers: ReadonlyMap<string, string>;
  readonly results: RunResults;
  /** Folder of the bundle: new or empty. */
  readonly out: string;
  /** Secrets: signs the manifest. */
  readonly identity: { readonly publicKey: Uint8Array; readonly secretSeed: Uint8Array };
}

async function requireEmpty(folder: string): Promise<void> {
  const there = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new CoveyError('USAGE_CONFIG', `"out" expected a new folder, got ${error.code} for ${folder}`);
  });
  if (there.length > 0) throw new CoveyError('USAGE_STATE', `"out" expected a new or empty folder, got ${folder}`);
}

/**
 * Puts a bundle together: the coordinator's export, the members' ledgers, results, report, and the signed manifest over all of it.
 * @throws CoveyError USAGE_STATE for a folder that holds something, USAGE_CONFIG for an export that is not there.
 */
export async function writeBundle({
  exported,
  federation,
  identity,
  ledgers,
  out,
  results,
}: BundleParts): Promise<void> {
  const log = await readFile(join(exported, 'log.jsonl'), 'utf8').catch((cause: unknown) => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"state" expected a run that ended, got no log in ${exported}; hint: covey server writes it at the end of a run`,
      {},
      { cause },
    );
  });
  await requireEmpty(out);
  await mkdir(out, { recursive: true });
  await cp(exported, out, { recursive: true });
  const write = async (path: string, data: string): Promise<void> => {
    await mkdir(dirname(join(out, path)), { recursive: true });
    await writeFile(join(out, path), data);
  };
  for (const [id, lines] of ledgers) await write(join('ledgers', `${id}.jsonl`), lines);
  await cp(federation, join(out, 'federation.json'));
  await write('results.json', `${canonicalJson(results)}\n`);
  await write('report.html', renderReport(reportFacts(log, results, nodeCrypto)));
  const hashes: Record<string, string> = {};
  for (const path of await listFiles(out))
    hashes[path] = toHex(nodeCrypto.sha256(new Uint8Array(await readFile(join(out, path)))));
  const manifest = `${canonicalJson({ files: hashes })}\n`;
  await write('manifest.json', manifest);
  const genesis = JSON.parse(log.slice(0, log.indexOf('\n'))) as { readonly run: string; readonly federation: string };
  const key = { name: logOrigin(genesis.federation, genesis.run), publicKey: identity.publicKey };
  await write('manifest.note', signNote(manifest, key, identity.secretSeed, nodeCrypto));
}
