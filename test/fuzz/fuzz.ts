import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { createReassembler } from '../../platform/transport/framing.ts';
import { createHello, decodeHello, decodeProof, encodeHello, encodeProof } from '../../platform/transport/hello.ts';
import { decodeParts, encodeParts, fromHex, fromUtf8, toHex, utf8 } from '../../protocol/bytes.ts';
import { isCoveyError } from '../../protocol/errors.ts';
import { decodeSessionMessage } from '../../protocol/frame.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { signMessage } from '../../protocol/messages.ts';
import { decodeParams, encodeParams } from '../../protocol/params.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { verifyTranscript } from '../../protocol/transcript.ts';
import { parseEntry } from '../../src/audit/entries.ts';
import { decodeLayersModel, encodeLayersModel } from '../../src/learning/layers-model.ts';
import { decodeSafetensors, encodeSafetensors } from '../../src/learning/safetensors.ts';
import { eventFromJson } from '../../src/privacy/event-json.ts';
import { decodeRunMessage } from '../../src/run/messages.ts';
import { createDice } from '../simulation/world.ts';
import { runSession } from '../support/session-world.ts';
import type { Vectors } from '../vectors/check.ts';

/*
 * Valid bytes, changed where it hurts: lengths, types, field borders, pieces moved, repeated and cut. Whatever comes of it,
 * a decoder or a machine answers with a value or a CoveyError, and memory does not grow with what a length field claims.
 */

type Dice = (below: number) => number;

const CLAIMS = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/** One to four changes of a valid input. `other` lends pieces. */
export function mutate(bytes: Uint8Array, other: Uint8Array, dice: Dice): Uint8Array {
  let changed: Uint8Array = bytes.slice();
  for (let n = 1 + dice(4); n > 0; n--) {
    const at = dice(changed.length + 1);
    switch (dice(7)) {
      case 0:
        if (at < changed.length) changed[at] = (changed[at] as number) ^ (1 << dice(8));
        break;
      case 1:
        if (at < changed.length) changed[at] = [0, 0x7f, 0x80, 0xc0, 0xc1, 0xd9, 0xdf, 0xff][dice(8)] as number;
        break;
      case 2:
        // A length that lies, in either byte order.
        if (at + 4 <= changed.length)
          new DataView(changed.buffer, changed.byteOffset).setUint32(
            at,
            CLAIMS[dice(CLAIMS.length)] as number,
            dice(2) === 0,
          );
        break;
      case 3:
        changed = changed.slice(0, at);
        break;
      case 4: {
        const from = dice(other.length + 1);
        const piece = other.subarray(from, from + dice(40));
        changed = Uint8Array.from([...changed.subarray(0, at), ...piece, ...changed.subarray(at)]);
        break;
      }
      case 5:
        changed = Uint8Array.from([
          ...changed.subarray(0, at),
          ...changed.subarray(Math.min(changed.length, at + 1 + dice(16))),
        ]);
        break;
      default:
        changed = mutateParts(changed, dice);
    }
  }
  return changed;
}

/** Moves, repeats or drops whole fields of a length-prefixed list, so that what is inside them is reached. */
function mutateParts(bytes: Uint8Array, dice: Dice): Uint8Array {
  let parts: Uint8Array[];
  try {
    parts = decodeParts(bytes);
  } catch {
    return bytes;
  }
  if (parts.length === 0) return bytes;
  const [i, j] = [dice(parts.length), dice(parts.length)];
  const part = parts[i] as Uint8Array;
  if (dice(4) === 0) parts.splice(i, 1);
  else if (dice(3) === 0) parts.splice(j, 0, part);
  else if (dice(2) === 0) parts[i] = mutateParts(part, dice);
  else parts[j] = part;
  return encodeParts(parts);
}

interface Target {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  run(bytes: Uint8Array): unknown;
}

function createTargets(): readonly Target[] {
  const path = join(import.meta.dirname.replace(/([/\\])dist[/\\]test/, '$1test'), '../vectors/covey-1.json');
  const { frames } = JSON.parse(readFileSync(path, 'utf8')) as Vectors;
  const session = frames.filter(({ type }) => !type.startsWith('run/')).map(({ frame }) => fromHex(frame));
  const run = frames.filter(({ type }) => type.startsWith('run/')).map(({ frame }) => fromHex(frame));
  const world = runSession({ members: 4, coordinates: 3, params: { purpose: 'census' } });
  const limit = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };
  const id = new Uint8Array(32).fill(1);
  const model = encodeLayersModel(
    { inputs: 3, hidden: [2], classes: 2 },
    { body: new Float64Array(8), head: new Float64Array(6) },
  );
  return [
    { name: 'session frame', seeds: session, run: (bytes) => decodeSessionMessage(bytes, limit) },
    { name: 'run frame', seeds: run, run: (bytes) => decodeRunMessage(bytes) },
    { name: 'hello', seeds: [encodeHello(createHello(id, id, 1_000_000))], run: decodeHello },
    { name: 'proof', seeds: [encodeProof(new Uint8Array(64))], run: decodeProof },
    { name: 'parameters', seeds: [encodeParams(world.params)], run: decodeParams },
    {
      name: 'transcript',
      seeds: [world.outcome?.transcript as Uint8Array],
      run: (bytes) => verifyTranscript(nodeCrypto, bytes, world.roster, world.coordinator.publicKey),
    },
    {
      name: 'fragment',
      seeds: [Uint8Array.of(0, 1, 2), Uint8Array.of(1, 0, 1, 0, 0, ...new Uint8Array(64)), Uint8Array.of(2, 1)],
      run(bytes) {
        const staging = { heldBytes: 0, maxBytes: 1_000 };
        createReassembler({ maxMessageBytes: 500, fragmentBytes: 64 }, staging).push(bytes);
        if (staging.heldBytes > 1_000) throw new Error('more is held than the window allows');
      },
    },
    {
      name: 'safetensors',
      seeds: [encodeSafetensors([{ name: 'a', shape: [2], values: Float32Array.of(1, 2) }], { round: '1' })],
      run: decodeSafetensors,
    },
    {
      name: 'layers model',
      seeds: [model.modelJson],
      run: (bytes) => decodeLayersModel({ modelJson: bytes, weights: model.weights }),
    },
    {
      name: 'log entry',
      seeds: [
        utf8(
          '{"actor":"00","body":{},"federation":"f","prevByActor":"","run":"00","seq":0,"sig":"00","time":"t","type":"genesis","v":1}',
        ),
      ],
      run: (bytes) => parseEntry(textOf(bytes), () => id, nodeCrypto),
    },
    {
      name: 'event',
      seeds: [utf8('{"kind":"poissonSampled","probability":"0.5","event":{"kind":"gaussian","noiseMultiplier":"2"}}')],
      run: (bytes) => eventFromJson(JSON.parse(textOf(bytes))),
    },
  ];
}

/** Text of any bytes; what is not UTF-8 or not JSON is no input of these decoders. */
function textOf(bytes: Uint8Array): string {
  return fromUtf8(bytes);
}

/** A whole session in which one message after another is changed; those of the coordinator are signed again. */
function fuzzMachines(dice: Dice): void {
  const pool: Uint8Array[] = [];
  const change = (message: SessionMessage, secretSeed: Uint8Array | null): SessionMessage => {
    pool.push(message.body, message.attachment);
    if (dice(6) !== 0) return message;
    const other = pool[dice(pool.length)] as Uint8Array;
    const body = dice(2) === 0 ? mutate(message.body, other, dice) : message.body;
    const attachment = dice(2) === 0 ? mutate(message.attachment, other, dice) : message.attachment;
    if (secretSeed === null) return { ...message, body, attachment };
    return signMessage(nodeCrypto, secretSeed, message.type, message.sid, body, attachment);
  };
  runSession({
    members: 4,
    coordinates: 3,
    params: { purpose: dice(2) === 0 ? 'census' : 'train' },
    toMember: (message, _to, world) => change(message, dice(3) === 0 ? null : world.coordinator.secretSeed),
    fromMember: (message, from, world) =>
      change(message, dice(3) === 0 ? null : (world.members[from] as { secretSeed: Uint8Array }).secretSeed),
  });
}

export interface FuzzTotals {
  readonly inputs: number;
  readonly refused: number;
  readonly sessions: number;
  readonly heapGrowthBytes: number;
}

/** Fuzzes until `isOver`. @throws Error naming target, seed and input in hex for anything but a CoveyError. */
export function fuzz(seed: number, isOver: (inputs: number) => boolean): FuzzTotals {
  const dice = createDice(seed);
  const targets = createTargets();
  const before = process.memoryUsage().heapUsed;
  let [inputs, refused, sessions] = [0, 0, 0];
  while (!isOver(inputs)) {
    for (const target of targets) {
      for (let n = 0; n < 20; n++, inputs++) {
        const seedBytes = target.seeds[dice(target.seeds.length)] as Uint8Array;
        const other = target.seeds[dice(target.seeds.length)] as Uint8Array;
        const bytes = mutate(seedBytes, other, dice);
        try {
          target.run(bytes);
        } catch (error) {
          refused += 1;
          const isJson = error instanceof SyntaxError && target.name === 'event';
          if (!isCoveyError(error) && !isJson)
            throw new Error(`${target.name}, seed ${seed}, input ${toHex(bytes)}: ${String(error)}`, { cause: error });
          if (isCoveyError(error) && error.code === 'INTERNAL_INVARIANT')
            throw new Error(`${target.name}, seed ${seed}, input ${toHex(bytes)}: an internal fault`, { cause: error });
        }
      }
    }
    fuzzMachines(dice);
    sessions += 1;
  }
  return { inputs, refused, sessions, heapGrowthBytes: process.memoryUsage().heapUsed - before };
}

/** `npm run fuzz -- --seconds N [--seed S]`. */
function main(): void {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '600' }, seed: { type: 'string', default: '1' } },
  });
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  if (!(seconds > 0) || !Number.isSafeInteger(seed)) {
    process.stderr.write(
      `"seconds" expected a positive number and "seed" an integer, got ${values.seconds} and ${values.seed}\n`,
    );
    process.exitCode = 2;
    return;
  }
  const started = performance.now();
  const totals = fuzz(seed, () => performance.now() - started > 1_000 * seconds);
  process.stdout.write(
    `${totals.inputs} inputs (${totals.refused} refused) and ${totals.sessions} sessions in ${seconds} s: nothing but CoveyError; heap grew by ${(totals.heapGrowthBytes / 1e6).toFixed(1)} MB\n`,
  );
}

if (process.argv[1]?.endsWith('fuzz.js') === true) main();
