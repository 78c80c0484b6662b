import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeParts, toHex, u32le } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { Roster, SessionParams } from '../../protocol/session.ts';
import { createTranscriptVerifier, TRANSCRIPT_PARTS, type VerifiedTranscript } from '../../protocol/transcript.ts';
import { removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';

/*
 * A transcript on disk has the bytes of SPEC section 6: nine length-prefixed parts, the sixth holding the masked vectors.
 * Both ways it is streamed: one vector in memory, whatever the cohort.
 */

/** Part with the vectors. */
const VECTORS = 5;

/** Names of the parts, for messages. */
const PART_NAMES = [
  'P0',
  'P1 list',
  'P1R list',
  'P2 list',
  'P3 list',
  'vectors',
  'P4 list',
  'revealed secrets',
  'result',
] as const;

/** Keeps the transcripts of a coordinator's released sessions; masked uploads wait in a spool beside them. */
export function openTranscriptFolder(folder: string): {
  keep(sid: Uint8Array, id: Uint8Array, vector: Uint8Array): Promise<void>;
  complete(
    params: SessionParams,
    sid: Uint8Array,
    transcript: Uint8Array,
    survivors: readonly Uint8Array[],
  ): Promise<void>;
  discard(sid: Uint8Array): Promise<void>;
} {
  const spoolOf = (sid: Uint8Array): string => join(folder, 'spool', toHex(sid));
  const discard = (sid: Uint8Array): Promise<void> => rm(spoolOf(sid), { recursive: true, force: true });
  // What a killed process left belongs to sessions that will never release anything.
  const emptied = rm(join(folder, 'spool'), { recursive: true, force: true });
  return {
    discard,
    async keep(sid, id, vector) {
      await emptied;
      await mkdir(spoolOf(sid), { recursive: true });
      await writeFile(join(spoolOf(sid), toHex(id)), vector, { mode: 0o600 });
    },
    async complete(params, sid, transcript, survivors) {
      const parts = decodeParts(transcript, TRANSCRIPT_PARTS);
      await mkdir(folder, { recursive: true });
      const path = join(folder, `round-${params.round}-${params.purpose}-${toHex(sid).slice(0, 12)}.transcript`);
      const file = createWriteStream(`${path}.tmp`, { mode: 0o600 });
      const write = async (bytes: Uint8Array): Promise<void> => {
        if (!file.write(bytes)) await once(file, 'drain');
      };
      for (const [i, part] of parts.entries()) {
        if (i !== VECTORS) {
          await write(u32le(part.length));
          await write(part);
          continue;
        }
        let total: number | null = null;
        for (const id of survivors) {
          const vector = await readFile(join(spoolOf(sid), toHex(id)));
          if (total === null) {
            total = survivors.length * (4 + vector.length);
            await write(u32le(total));
          }
          await write(u32le(vector.length));
          await write(vector);
        }
      }
      file.end();
      await once(file, 'close');
      // Whole or not at all.
      await rename(`${path}.tmp`, path);
      await discard(sid);
    },
  };
}

/** Reads a file forward, counting, with a bound on every piece. */
class Reader {
  readonly #file: FileHandle;
  readonly #size: number;
  offset = 0;

  constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  get left(): number {
    return this.#size - this.offset;
  }

  async take(length: number): Promise<Uint8Array> {
    if (length > this.left)
      throw new CoveyError('CODEC_TRUNCATED', `"file" expected ${length} more bytes, got ${this.left}`);
    const bytes = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const { bytesRead } = await this.#file.read(bytes, at, length - at, this.offset + at);
      if (bytesRead === 0) throw new CoveyError('CODEC_TRUNCATED', '"file" ended while it was read');
      at += bytesRead;
    }
    this.offset += length;
    return bytes;
  }

  async takeLength(most: number): Promise<number> {
    const bytes = await this.take(4);
    const length = new DataView(bytes.buffer).getUint32(0, true);
    if (length > most) throw new CoveyError('CODEC_LIMIT', `"length" expected at most ${most}, got ${length}`);
    return length;
  }
}

/** A verified file. Units: bytes. */
export interface TranscriptReport extends VerifiedTranscript {
  readonly fileBytes: number;
}

/**
 * Recomputes the released sum of a transcript file. Memory: one vector and the sum.
 * @throws CoveyError with the code of what does not fit; the message names the place: part, member and byte range.
 */
export async function verifyTranscriptFile(
  path: string,
  crypto: CryptoProvider,
  roster: Roster,
  coordinatorKey: Uint8Array,
): Promise<TranscriptReport> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw new CoveyError('USAGE_CONFIG', `"file" expected a transcript, got ${path}`, {}, { cause });
  });
  const { size } = await file.stat();
  const reader = new Reader(file, size);
  let place = 'P0';
  let start = 0;
  const begin = (name: string): void => {
    place = name;
    start = reader.offset;
  };
  const takePart = async (i: number): Promise<Uint8Array> => {
    begin(PART_NAMES[i] as string);
    return reader.take(await reader.takeLength(LIMITS.payloadBytes));
  };
  try {
    const verifier = createTranscriptVerifier(crypto, roster, coordinatorKey, removeDropoutNoise);
    const lists = [
      await takePart(0),
      await takePart(1),
      await takePart(2),
      await takePart(3),
      await takePart(4),
    ] as const;
    begin('P0 to P3 lists');
    start = 0;
    const { survivors, vectorBytes } = verifier.begin(...lists);
    begin('vectors');
    const expected = survivors.length * (4 + vectorBytes);
    const total = await reader.takeLength(0xffff_ffff);
    if (total !== expected)
      throw new CoveyError('CODEC_TRUNCATED', `"vectors" expected ${expected} bytes, got ${total}`);
    for (const id of survivors) {
      begin(`vector of member ${toHex(id).slice(0, 12)}`);
      const length = await reader.takeLength(vectorBytes);
      verifier.takeVector(await reader.take(length));
    }
    const certificate = await takePart(6);
    const secrets = await takePart(7);
    const result = await takePart(8);
    if (reader.left > 0) {
      begin('end of file');
      throw new CoveyError('CODEC_TRAILING', `"file" expected its end, got ${reader.left} more bytes`);
    }
    begin('certificate, secrets and result');
    start = reader.offset - certificate.length - secrets.length - result.length - 12;
    return { ...verifier.finish(certificate, secrets, result), fileBytes: size };
  } catch (error) {
    if (!isCoveyError(error) || error.code.startsWith('USAGE_CONFIG')) throw error;
    const range = `bytes ${start} to ${Math.max(start, reader.offset)}`;
    throw new CoveyError(error.code, `${place} (${range}): ${error.message}`, {}, { cause: error });
  } finally {
    await file.close();
  }
}
