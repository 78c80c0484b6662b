import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { wordsToBytes } from '../protocol/ring.ts';
import { canonicalJson } from '../src/audit/canonical-json.ts';
import { checkpointOf, logOrigin, signCheckpoint } from '../src/audit/checkpoint.ts';
import type { ReleasedModels } from '../src/learning/algorithm.ts';
import { encodeLayersModel, WEIGHTS_FILE } from '../src/learning/layers-model.ts';
import { encodeModel } from '../src/learning/model-files.ts';
import type { RunConfig } from '../src/run/config.ts';
import { modelManifest } from '../src/run/released.ts';
import type { Journal } from './coordinator/journal.ts';

/** Writes what an auditor needs of a run: configuration, signed log, checkpoint, released sums and models. */
export async function exportRun(
  folder: string,
  crypto: CryptoProvider,
  identity: { readonly secretSeed: Uint8Array; readonly publicKey: Uint8Array },
  config: RunConfig,
  journal: Journal,
  models: ReleasedModels,
): Promise<void> {
  const write = async (path: string, data: string | Uint8Array): Promise<void> => {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFileAtomic(join(folder, path), data);
  };
  const lines = journal.lines();
  await write('config.json', `${canonicalJson(config)}\n`);
  await write('log.jsonl', lines.map((line) => `${line}\n`).join(''));
  const origin = logOrigin(config.federation, journal.runId);
  await write(
    'checkpoint',
    signCheckpoint(
      checkpointOf(origin, lines.map(utf8), crypto),
      { name: origin, publicKey: identity.publicKey },
      identity.secretSeed,
      crypto,
    ),
  );
  for (const { sid, sum } of journal.releases()) await write(`sums/${toHex(sid)}.bin`, wordsToBytes(sum));
  for (const [slot, head] of models.heads.entries()) {
    const model = { body: Float64Array.from(models.body), head: Float64Array.from(head) };
    const metadata = { federation: config.federation, slot: String(slot) };
    const { modelJson, weights } = encodeLayersModel(config.model, model, metadata);
    await write(`models/slot-${slot}/model.json`, modelJson);
    await write(`models/slot-${slot}/${WEIGHTS_FILE}`, weights);
    await write(`models/slot-${slot}/model.safetensors`, encodeModel(modelManifest(config), model, metadata));
  }
}
