import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTranscriptFolder } from '../../platform/node/transcript-file.ts';
import { toHex } from '../../protocol/bytes.ts';
import { runSession, type World } from './session-world.ts';

/** A training session of five members, one of them lost before its upload, and its transcript as a coordinator keeps it. */
export async function keepTranscript(
  members = 5,
  coordinates = 9,
): Promise<{ folder: string; path: string; world: World }> {
  const dropped = toHex((runSession({ members, coordinates: 1 }).members[1] as { id: Uint8Array }).id);
  const world = runSession({ members, coordinates, lanes: 3, drops: { 'masked-input': [dropped] } });
  const { outcome } = world;
  if (outcome === null) throw new Error('the session did not end');
  const folder = mkdtempSync(join(tmpdir(), 'covey-transcript-'));
  const keeper = openTranscriptFolder(folder);
  for (const { from, message } of world.sent)
    if (message.type === 'p3')
      await keeper.keep(outcome.sid, (world.members[from] as { id: Uint8Array }).id, message.attachment);
  await keeper.complete(world.params, outcome.sid, outcome.transcript, outcome.survivors);
  const [name = ''] = readdirSync(folder).filter((file) => file.endsWith('.transcript'));
  return { folder, path: join(folder, name), world };
}
