import { nodeCrypto } from '../platform/node/crypto.ts';
import { createAggregator, stepAggregator } from '../protocol/aggregator.ts';
import { compareBytes, equalBytes, hashParts, u32le, utf8 } from '../protocol/bytes.ts';
import { nodeId, rosterHash } from '../protocol/params.ts';
import { createParticipant, stepParticipant } from '../protocol/participant.ts';
import { addWords, applyMasks, packLanes, ringWordCount, wordsToBytes } from '../protocol/ring.ts';
import type { AggregatorEvent, Lanes, ParticipantEvent, Phase, Roster, SessionParams } from '../protocol/session.ts';

/*
 * Cost of one strict session: every member and the coordinator run their real machines in this process, one at a time;
 * CPU time is booked to whoever runs. Sockets, disk and training are left out, as in the figures it is compared with.
 */

const crypto = nodeCrypto;
const seed = (name: string, n: number): Uint8Array => hashParts(crypto, utf8('bench'), utf8(name), u32le(n));

export interface Cost {
  readonly clientMs: number;
  readonly serverMs: number;
  /** Of `serverMs`: from the opening that completes the last secret to the bare sum, masks included. */
  readonly unmaskMs: number;
  readonly uploadBytes: number;
}

export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

export interface BenchIdentities {
  readonly nodes: readonly {
    readonly id: Uint8Array;
    readonly publicKey: Uint8Array;
    readonly secretSeed: Uint8Array;
  }[];
  readonly roster: Roster;
  readonly coordinator: { readonly secretSeed: Uint8Array; readonly publicKey: Uint8Array };
}

/** The same keys for every run. */
export function benchIdentities(members: number): BenchIdentities {
  const nodes = Array.from({ length: members }, (_, i) => {
    const secretSeed = seed('node', i);
    const publicKey = crypto.ed25519PublicKey(secretSeed);
    return { id: nodeId(crypto, publicKey), publicKey, secretSeed };
  }).sort((a, b) => compareBytes(a.id, b.id));
  const entries = nodes.map(({ id, publicKey }, i) => ({ id, publicKey, organization: `org-${i}` }));
  const secretSeed = seed('coordinator', 0);
  const coordinator = { secretSeed, publicKey: crypto.ed25519PublicKey(secretSeed) };
  return { nodes, roster: { version: 1, entries, revoked: [] }, coordinator };
}

export function benchParams(roster: Roster, coordinates: number, lanes: Lanes): SessionParams {
  const members = roster.entries.length;
  return {
    protocol: 'covey/1',
    runId: '000102030405060708090a0b0c0d0e0f',
    round: 1,
    purpose: 'train',
    attempt: 0,
    groupId: 'all',
    mode: 'hybrid',
    slots: 1,
    layout: [{ segment: 'body', length: coordinates }],
    modelHash: seed('model', 0),
    taskHash: seed('task', 0),
    rosterHash: rosterHash(crypto, roster),
    rosterVersion: 1,
    ring: { lanes, bits: lanes === 2 ? 32 : lanes === 3 ? 21 : 16 },
    encoding: { clippingNorm: 1, scale: 256, rotationSeed: seed('rotation', 0), rounding: 'toward-zero' },
    noise: { mechanism: 'discrete-gaussian', shareVariance: 16 },
    minSurvivors: Math.floor((2 * members) / 3) + 1,
    minOrgs: 1,
    colluders: Math.floor((members - 1) / 3),
    dropoutFraction: 0.1,
    maxLoss: members,
    profile: 'strict',
    deadlineMs: 60_000,
  };
}

/** @throws Error if the session fails or its sum is wrong. Units: CPU milliseconds of the median member and the server. */
export function measureSession(members: number, coordinates: number, lanes: Lanes, dropped: number): Cost {
  const { nodes, roster, coordinator } = benchIdentities(members);
  const params = benchParams(roster, coordinates, lanes);
  const clientMs = new Float64Array(members);
  let serverMs = 0;
  let unmaskMs = 0;
  let uploadBytes = 0;
  const book = <T>(member: number | null, work: () => T): T => {
    const before = cpuMs();
    const result = work();
    if (member === null) serverMs += cpuMs() - before;
    else clientMs[member] = (clientMs[member] ?? 0) + cpuMs() - before;
    return result;
  };
  const states = nodes.map((identity) =>
    createParticipant(identity, { coordinatorKey: coordinator.publicKey, roster }, crypto),
  );
  let aggregator = createAggregator(coordinator, roster);
  const sum = new Uint32Array(ringWordCount(coordinates, lanes));
  const values = packLanes(
    Int32Array.from({ length: coordinates }, (_, i) => (i % 17) - 8),
    lanes,
  );
  const queue: (() => void)[] = [];
  let phase: Phase = 'advertise';
  let isDone = false;

  const toServer = (event: AggregatorEvent): void => {
    const before = serverMs;
    const step = book(null, () => stepAggregator(crypto, aggregator, event));
    aggregator = step.state;
    if (step.effects.some(({ type }) => type === 'unmask')) unmaskMs += serverMs - before;
    for (const effect of step.effects) {
      if (effect.type === 'send') {
        const to = nodes.findIndex(({ id }) => equalBytes(id, effect.to));
        const { message } = effect;
        queue.push(() =>
          toClient(
            to,
            message.type === 'p0'
              ? { type: 'open', message, entropy: seed('entropy', to) }
              : { type: 'message', message },
          ),
        );
      } else if (effect.type === 'deadline') phase = effect.phase;
      else if (effect.type === 'fold') {
        book(null, () => addWords(sum, effect.words, lanes));
        toServer({ type: 'folded', id: effect.id });
      } else if (effect.type === 'charge') toServer({ type: 'charged' });
      else if (effect.type === 'unmask') {
        const masked = serverMs;
        book(null, () => applyMasks(sum, lanes, effect.seeds, crypto));
        unmaskMs += serverMs - masked;
        toServer({ type: 'unmasked', sum });
      } else if (effect.type === 'done') isDone = true;
      else if (effect.type === 'abort') throw new Error(`the session was given up: ${effect.outcome.reason}`);
    }
  };
  const toClient = (m: number, event: ParticipantEvent): void => {
    const before = states[m];
    if (before === undefined) return;
    const step = book(m, () => stepParticipant(crypto, before, event));
    states[m] = step.state;
    for (const effect of step.effects) {
      if (effect.type === 'authorize') toClient(m, { type: 'authorized', census: null });
      else if (effect.type === 'contribute') toClient(m, { type: 'contribution', words: values.slice() });
      else if (effect.type === 'charge') toClient(m, { type: 'charged' });
      else if (effect.type === 'mask') {
        const { words, digest } = book(m, () => {
          const masked = effect.words.slice();
          applyMasks(masked, lanes, effect.seeds, crypto);
          return { words: masked, digest: crypto.sha256(wordsToBytes(masked)) };
        });
        toClient(m, { type: 'masked', words, digest });
      } else if (effect.type === 'send') {
        const { message } = effect;
        // The last members vanish with their upload.
        if (message.type === 'p3' && m >= members - dropped) {
          queue.push(() => toServer({ type: 'lost', id: nodes[m]?.id ?? new Uint8Array(32) }));
          continue;
        }
        if (message.type === 'p3') uploadBytes = message.attachment.length;
        queue.push(() => toServer({ type: 'message', from: nodes[m]?.id ?? new Uint8Array(32), message }));
      } else if (effect.type === 'abort' && m < members - dropped)
        throw new Error(`a member gave up: ${effect.reason}`);
    }
  };
  toServer({ type: 'open', params, attachment: utf8('models'), invited: nodes.map(({ id }) => id) });
  while (!isDone) {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
    if (!isDone) toServer({ type: 'deadline', phase });
  }
  const expected = new Uint32Array(sum.length);
  for (let m = 0; m < members - dropped; m++) addWords(expected, values, lanes);
  if (!expected.every((word, i) => word === sum[i])) throw new Error('the sum is wrong');
  return { clientMs: median([...clientMs]), serverMs, unmaskMs, uploadBytes };
}
