import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { verifyTranscriptFile } from '../../platform/node/transcript-file.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { plainSum } from '../support/session-world.ts';
import { keepTranscript } from '../support/transcript-world.ts';

it('every byte of a transcript file counts', async () => {
  const { folder, path, world } = await keepTranscript();
  const original = new Uint8Array(readFileSync(path));
  const copy = join(folder, 'changed');
  for (let at = 0; at < original.length; at++) {
    writeFileSync(
      copy,
      original.map((byte, i) => (i === at ? byte ^ (1 << (at % 8)) : byte)),
    );
    const error: unknown = await verifyTranscriptFile(
      copy,
      nodeCrypto,
      world.roster,
      world.coordinator.publicKey,
    ).catch((reason: unknown) => reason);
    expect(isCoveyError(error) && /\(bytes \d+ to \d+\)/.test(error.message), `byte ${at}`).toBe(true);
  }
});

it('a long transcript is verified with the memory of a few vectors', async () => {
  // Vectors of 5.3 MB from 30 members: 155 MB on disk.
  const { path, world } = await keepTranscript(30, 2_000_000);
  const vectorBytes = 8 * Math.ceil(2_000_000 / 3);
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }, 5);
  const report = await verifyTranscriptFile(path, nodeCrypto, world.roster, world.coordinator.publicKey);
  clearInterval(watch);
  expect(report.sum).toEqual(plainSum(world, report.survivors));
  process.stdout.write(
    `transcript of ${report.fileBytes} bytes, vectors of ${vectorBytes}: peak ${peak} bytes of buffers beyond the start\n`,
  );
  // Garbage of past vectors may linger until it is collected; all of them together it is not.
  expect(peak).toBeLessThan(report.fileBytes / 2);
});
