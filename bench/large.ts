import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import { decodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { createParticipant, stepParticipant } from '../protocol/participant.ts';
import { applyMasks, packLanes, wordsToBytes } from '../protocol/ring.ts';
import type { ParticipantEvent, SessionMessage } from '../protocol/session.ts';
import { type SessionHost, startSession } from '../server/coordinator/session.ts';
import { rememberingVerifications } from './remembered-crypto.ts';
import { type BenchIdentities, benchIdentities, benchParams, cpuMs } from './session.ts';

/*
 * A large sparse session: the coordinator's driver and machine in this process, all members in another one, so that CPU
 * and memory are the server's. Messages travel over a pipe whose reading and writing is counted too.
 */

interface Sizes {
  readonly members: number;
  readonly coordinates: number;
  readonly dropped: number;
}

const LANES = 3;
/** A pipe that has brought nothing for so long is taken for empty. */
const IDLE_MS = 5;

function sparseParams(roster: BenchIdentities['roster'], { members, coordinates }: Sizes) {
  return {
    ...benchParams(roster, coordinates, LANES),
    profile: 'sparse' as const,
    colluders: Math.floor(members / 20),
    dropoutFraction: 0.05,
    minSurvivors: Math.ceil(0.9 * members),
    deadlineMs: 3_600_000,
  };
}

/** Which members vanish with their upload: spread over the roster. */
const vanishes = (member: number, { members, dropped }: Sizes): boolean =>
  Math.floor(((member + 1) * dropped) / members) > Math.floor((member * dropped) / members);

type FromMember = { readonly member: number; readonly message: SessionMessage | null };
type ToMember = { readonly member: number; readonly frame: Uint8Array };

function runMembers(sizes: Sizes): void {
  // Every member checks the same signatures; they are not what is measured here.
  const crypto = rememberingVerifications(nodeCrypto);
  const { nodes, roster, coordinator } = benchIdentities(sizes.members);
  const states = nodes.map((identity) =>
    createParticipant(identity, { coordinatorKey: coordinator.publicKey, roster }, crypto),
  );
  const values = packLanes(
    Int32Array.from({ length: sizes.coordinates }, (_, i) => (i % 17) - 8),
    LANES,
  );
  const send = (item: FromMember): void => void process.send?.(item);
  const step = (member: number, event: ParticipantEvent): void => {
    const { state, effects } = stepParticipant(crypto, states[member] as (typeof states)[number], event);
    states[member] = state;
    for (const effect of effects) {
      if (effect.type === 'authorize') step(member, { type: 'authorized', census: null });
      else if (effect.type === 'contribute') step(member, { type: 'contribution', words: values.slice() });
      else if (effect.type === 'charge') step(member, { type: 'charged' });
      else if (effect.type === 'mask') {
        const words = effect.words.slice();
        applyMasks(words, LANES, effect.seeds, crypto);
        step(member, { type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
      } else if (effect.type === 'send') {
        const { message } = effect;
        send({ member, message: message.type === 'p3' && vanishes(member, sizes) ? null : message });
      }
    }
  };
  const take = ({ member, frame }: ToMember): void => {
    const message = decodeSessionMessage(frame, {
      maxHeaderBytes: LIMITS.headerBytes,
      maxPayloadBytes: LIMITS.payloadBytes,
    });
    step(
      member,
      message.type === 'p0' ? { type: 'open', message, entropy: randomBytes(32) } : { type: 'message', message },
    );
  };
  // A thousand machines would not leave their messages lying until others are done: one is worked on when the pipe is empty.
  const waiting: ToMember[] = [];
  const idle = setTimeout(() => {
    const item = waiting.shift();
    if (item !== undefined) take(item);
    if (waiting.length > 0) idle.refresh();
  }, IDLE_MS);
  process.on('message', (item: ToMember) => {
    waiting.push(item);
    idle.refresh();
  });
}

async function runServer(sizes: Sizes): Promise<void> {
  const { nodes, roster, coordinator } = benchIdentities(sizes.members);
  const ranks = new Map(nodes.map(({ id }, i) => [toHex(id), i]));
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(sizes)], {
    serialization: 'advanced',
    execArgv: ['--max-old-space-size=12000'],
  });
  let down = 0;
  let up = 0;
  let vectors = 0;
  const bytesOf = ({ body, signature, attachment }: SessionMessage): number =>
    body.length + signature.length + attachment.length;
  const host: SessionHost = {
    send: (id, frame) =>
      new Promise((resolve, reject) => {
        down += frame.length;
        const item: ToMember = { member: ranks.get(toHex(id)) ?? -1, frame };
        child.send(item, (error) => (error === null ? resolve() : reject(error)));
      }),
    persist: () => Promise.resolve(),
    charge: () => Promise.resolve(),
    keepUpload: () => Promise.resolve(),
    onPhase: () => undefined,
  };
  const before = cpuMs();
  const invited = nodes.map(({ id }) => id);
  const params = sparseParams(roster, sizes);
  const session = startSession(nodeCrypto, coordinator, roster, { params, attachment: utf8('models'), invited }, host);
  child.on('message', ({ member, message }: FromMember) => {
    const { id } = nodes[member] as (typeof nodes)[number];
    if (message === null) return session.lost(id);
    up += bytesOf(message);
    if (message.type === 'p3') vectors += message.attachment.length;
    session.receive(id, message);
  });
  const end = await session.end;
  const cpu = cpuMs() - before;
  child.kill();
  if (end.type === 'abort') throw new Error(`the session was given up: ${end.outcome.reason}`);
  const expected = sizes.members - sizes.dropped;
  if (end.outcome.survivors.length !== expected)
    throw new Error(`expected ${expected} survivors, got ${end.outcome.survivors.length}`);
  const peak = process.resourceUsage().maxRSS / 1_024;
  console.log(
    `| ${sizes.members.toLocaleString('en')} | ${sizes.coordinates.toLocaleString('en')} | ${sizes.dropped} | ${(cpu / 1_000).toFixed(1)} s | ${peak.toFixed(0)} MB |`,
  );
  // What a session costs beside its vectors does not depend on their length.
  const beside = (down + up - vectors) / sizes.members;
  const raw = 2 * 2 ** 20;
  console.log(
    `Up and down beside the vector: ${(beside / 1e6).toFixed(2)} MB a member; with 2^20 entries of 16 bits ${((beside + raw) / raw).toFixed(2)}x of the raw vector (goal <= 1.5x at 2^10 members, Bonawitz 2017: 1.73x).`,
  );
}

const [job] = process.argv.slice(2);
if (job?.startsWith('{')) runMembers(JSON.parse(job) as Sizes);
else {
  const { values: flags } = parseArgs({
    options: {
      members: { type: 'string', default: '1000' },
      coordinates: { type: 'string', default: '100000' },
      dropped: { type: 'string', default: '50' },
    },
  });
  console.log(
    `A sparse session, 5 % colluders, 21-bit lanes; server process alone, pipe included, Node ${process.version}.`,
  );
  console.log('\n| n | d | lost before upload | server CPU | server peak memory |\n|---|---|---|---|---|');
  await runServer({
    members: Number(flags.members),
    coordinates: Number(flags.coordinates),
    dropped: Number(flags.dropped),
  });
}
