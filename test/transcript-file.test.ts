import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { openTranscriptFolder, verifyTranscriptFile } from '../platform/node/transcript-file.ts';
import { decodeParts, encodeParts, toHex } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { plainSum } from './support/session-world.ts';
import { keepTranscript } from './support/transcript-world.ts';

const crypto = nodeCrypto;

describe('a transcript file', async () => {
  const { folder, path, world } = await keepTranscript();
  const original = new Uint8Array(readFileSync(path));
  const copy = join(folder, 'changed');
  const { roster, coordinator } = world;
  const verdictOf = async (bytes: Uint8Array): Promise<string> => {
    writeFileSync(copy, bytes);
    try {
      await verifyTranscriptFile(copy, crypto, roster, coordinator.publicKey);
      return 'verified';
    } catch (error) {
      return isCoveyError(error) ? `${error.code} ${error.message}` : `threw ${String(error)}`;
    }
  };

  it('gives back the sum of the survivors and leaves no spool', async () => {
    const report = await verifyTranscriptFile(path, crypto, roster, coordinator.publicKey);
    expect(report.sum).toEqual(plainSum(world, report.survivors));
    expect([report.u1, report.u2, report.survivors.length, report.quorum]).toEqual([5, 5, 4, 4]);
    expect(report.fileBytes).toBe(original.length);
    expect(readdirSync(join(folder, 'spool'))).toEqual([]);
  });

  it('fails with a place if any byte is changed (every eleventh here, all in the long suite)', async () => {
    for (let at = 0; at < original.length; at += 11) {
      const verdict = await verdictOf(original.map((byte, i) => (i === at ? byte ^ 0x10 : byte)));
      expect(verdict, `byte ${at}`).toMatch(/^[A-Z]+_[A-Z_]+ .+ \(bytes \d+ to \d+\): /);
    }
  });

  it('fails if it is cut, continued, or its vectors change places', async () => {
    for (const length of [0, 3, 100, original.length - 1])
      expect(await verdictOf(original.subarray(0, length))).toContain('CODEC_TRUNCATED');
    expect(await verdictOf(Uint8Array.from([...original, 0]))).toContain('CODEC_TRAILING end of file');
    const parts = decodeParts(original, 9);
    const vectors = decodeParts(parts[5] as Uint8Array);
    const swapped = encodeParts([vectors[1] as Uint8Array, vectors[0] as Uint8Array, ...vectors.slice(2)]);
    expect(await verdictOf(encodeParts(parts.map((part, i) => (i === 5 ? swapped : part))))).toMatch(
      /CODEC_TYPE vector of member [0-9a-f]{12} \(bytes/,
    );
    const repeated = encodeParts([...vectors, vectors[0] as Uint8Array]);
    expect(await verdictOf(encodeParts(parts.map((part, i) => (i === 5 ? repeated : part))))).toContain(
      '"vectors" expected',
    );
    expect(await verdictOf(original)).toBe('verified');
  });

  it('says under which key and roster it does not verify', async () => {
    const other = crypto.ed25519PublicKey(new Uint8Array(32).fill(9));
    await expect(verifyTranscriptFile(path, crypto, roster, other)).rejects.toMatchObject({ code: 'AUTH_SIGNATURE' });
    await expect(
      verifyTranscriptFile(path, crypto, { ...roster, version: 2 }, coordinator.publicKey),
    ).rejects.toMatchObject({ code: 'PRIVACY_POLICY' });
    await expect(
      verifyTranscriptFile(join(folder, 'none'), crypto, roster, coordinator.publicKey),
    ).rejects.toMatchObject({ code: 'USAGE_CONFIG' });
  });

  it('is not left by a session that releases nothing', async () => {
    const keeper = openTranscriptFolder(folder);
    const sid = new Uint8Array(32).fill(7);
    await keeper.keep(sid, new Uint8Array(32), new Uint8Array(16));
    expect(existsSync(join(folder, 'spool', toHex(sid)))).toBe(true);
    await keeper.discard(sid);
    expect(existsSync(join(folder, 'spool', toHex(sid)))).toBe(false);
  });
});
