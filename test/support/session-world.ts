import { rememberingVerifications } from '../../bench/remembered-crypto.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { type AggregatorState, createAggregator, stepAggregator } from '../../protocol/aggregator.ts';
import { compareBytes, equalBytes, hashParts, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import type { SessionDrops } from '../../protocol/ideal.ts';
import { coordinateCount, nodeId, rosterHash } from '../../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import { addWords, applyMasks, packLanes, ringWordCount, wordsToBytes } from '../../protocol/ring.ts';
import type {
  AggregatorEffect,
  AggregatorEvent,
  Lanes,
  NoiseComponent,
  ParticipantEffect,
  ParticipantEvent,
  Phase,
  Roster,
  SessionAbort,
  SessionMessage,
  SessionOutcome,
  SessionParams,
} from '../../protocol/session.ts';
import { addDropoutNoise, removeDropoutNoise } from '../../src/privacy/dropout-noise.ts';

const crypto = rememberingVerifications(nodeCrypto);
const seedOf = (name: string, n = 0): Uint8Array => hashParts(crypto, utf8('test'), utf8(name), u32le(n));

/** Seed of the part of a member's noise that stays whoever drops out. */
export const baseNoiseSeed = (m: number): Uint8Array => seedOf('base noise', m);

export interface WorldOptions {
  readonly members: number;
  readonly coordinates?: number;
  readonly lanes?: Lanes;
  readonly drops?: SessionDrops;
  readonly params?: Partial<SessionParams>;
  /** Members per organization, 1 by default. */
  readonly perOrganization?: number;
  /** A malicious network or coordinator: what a member receives instead. Null: nothing. */
  readonly toMember?: (
    message: SessionMessage,
    to: number,
    world: World,
  ) => SessionMessage | readonly SessionMessage[] | null;
  /** A malicious member: what the coordinator receives instead. */
  readonly fromMember?: (
    message: SessionMessage,
    from: number,
    world: World,
  ) => SessionMessage | readonly SessionMessage[] | null;
  readonly census?: (member: number) => readonly Uint8Array[] | null;
  /** Watchers around the real machines. */
  readonly participantStep?: typeof stepParticipant;
  readonly aggregatorStep?: typeof stepAggregator;
}

export interface World {
  readonly params: SessionParams;
  readonly roster: Roster;
  readonly coordinator: { readonly publicKey: Uint8Array; readonly secretSeed: Uint8Array };
  /** In order of id, as every list of the protocol. */
  readonly members: readonly {
    readonly id: Uint8Array;
    readonly publicKey: Uint8Array;
    readonly secretSeed: Uint8Array;
  }[];
  readonly values: readonly Int32Array[];
  /** What enters each machine with P0; copies, for the machines wipe theirs. */
  readonly entropies: readonly Uint8Array[];
  readonly contributions: ReadonlyMap<string, Uint32Array>;
  readonly effects: { readonly member: number; readonly effect: ParticipantEffect }[];
  readonly sent: { readonly from: number; readonly message: SessionMessage }[];
  readonly received: { readonly to: number; readonly message: SessionMessage }[];
  readonly charges: Extract<AggregatorEffect, { type: 'charge' }>[];
  outcome: SessionOutcome | null;
  abort: SessionAbort | null;
  /** Aborts of members, by member. */
  readonly memberAborts: Map<number, Extract<ParticipantEffect, { type: 'abort' }>>;
  /** Removable noise of each member that contributed: |U2| and copies of its seeds. */
  readonly components: Map<number, { readonly members: number; readonly drawn: readonly NoiseComponent[] }>;
  readonly done: Map<number, Extract<ParticipantEffect, { type: 'done' }>>;
  states: ParticipantState[];
}

/** A roster of `members` nodes with fixed keys. */
export function createMembers(members: number, perOrganization = 1): { members: World['members']; roster: Roster } {
  const nodes = Array.from({ length: members }, (_, i) => {
    const secretSeed = seedOf('node', i);
    const publicKey = crypto.ed25519PublicKey(secretSeed);
    return { id: nodeId(crypto, publicKey), publicKey, secretSeed };
  }).sort((a, b) => compareBytes(a.id, b.id));
  const entries = nodes.map(({ id, publicKey }, i) => ({
    id,
    publicKey,
    organization: `org-${Math.floor(i / perOrganization)}`,
  }));
  return { members: nodes, roster: { version: 1, entries, revoked: [] } };
}

export function baseParams(
  roster: Roster,
  coordinates: number,
  lanes: Lanes,
  changes: Partial<SessionParams> = {},
): SessionParams {
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
    modelHash: seedOf('model'),
    taskHash: seedOf('task'),
    rosterHash: rosterHash(crypto, roster),
    rosterVersion: roster.version,
    ring: { lanes, bits: lanes === 2 ? 32 : lanes === 3 ? 21 : 16 },
    encoding: { clippingNorm: 1, scale: 65_536, rotationSeed: seedOf('rotation'), rounding: 'toward-zero' },
    noise: { mechanism: 'discrete-gaussian', shareVariance: 4 },
    minSurvivors: 3,
    minOrgs: 1,
    colluders: 0,
    dropoutFraction: 0.25,
    maxLoss: 256,
    profile: 'strict',
    deadlineMs: 1_000,
    ...changes,
  };
}

const NEXT: Readonly<Partial<Record<SessionMessage['type'], keyof SessionDrops>>> = {
  p1: 'advertise',
  p1r: 'reveal',
  p2: 'share-keys',
  p3: 'masked-input',
  p4: 'consistency',
  p5: 'unmask',
};

/** Runs one session of the real machines over an in-memory network; members in `drops` never send that message. */
export function runSession(options: WorldOptions): World {
  const { coordinates = 10, lanes = 2, drops = {} } = options;
  const { members, roster } = createMembers(options.members, options.perOrganization);
  const params = baseParams(roster, coordinates, lanes, options.params);
  const secretSeed = seedOf('coordinator');
  const coordinator = { secretSeed, publicKey: crypto.ed25519PublicKey(secretSeed) };
  const width = coordinateCount(params);
  const values = members.map((_, m) =>
    Int32Array.from({ length: width }, (_v, i) => ((m * 7_919 + i * 104_729) % 1_999) - 999),
  );
  const contributions = new Map(members.map(({ id }, m) => [toHex(id), packLanes(values[m] as Int32Array, lanes)]));
  const world: World = {
    params,
    roster,
    coordinator,
    members,
    values,
    entropies: members.map((_, m) => seedOf('entropy', m)),
    contributions,
    effects: [],
    sent: [],
    received: [],
    charges: [],
    outcome: null,
    abort: null,
    memberAborts: new Map(),
    components: new Map(),
    done: new Map(),
    states: members.map((identity) =>
      createParticipant(identity, { coordinatorKey: coordinator.publicKey, roster }, crypto),
    ),
  };
  let aggregator: AggregatorState = createAggregator(coordinator, roster);
  const sum = new Uint32Array(ringWordCount(width, lanes));
  const lost = new Set<number>();
  let phase: Phase = 'advertise';
  const queue: (() => void)[] = [];
  const list = (value: SessionMessage | readonly SessionMessage[] | null): readonly SessionMessage[] =>
    value === null ? [] : Array.isArray(value) ? (value as readonly SessionMessage[]) : [value as SessionMessage];

  const toMember = (message: SessionMessage, to: number): void => {
    for (const delivered of list(options.toMember?.(message, to, world) ?? (options.toMember ? null : message))) {
      world.received.push({ to, message: delivered });
      queue.push(() =>
        member(
          to,
          delivered.type === 'p0'
            ? { type: 'open', message: delivered, entropy: seedOf('entropy', to) }
            : { type: 'message', message: delivered },
        ),
      );
    }
  };
  const toAggregator = (event: AggregatorEvent): void => {
    const step = (options.aggregatorStep ?? stepAggregator)(crypto, aggregator, event);
    aggregator = step.state;
    const answers: AggregatorEvent[] = [];
    for (const effect of step.effects) {
      if (effect.type === 'send')
        toMember(
          effect.message,
          members.findIndex(({ id }) => equalBytes(id, effect.to)),
        );
      else if (effect.type === 'deadline') phase = effect.phase;
      else if (effect.type === 'fold') {
        addWords(sum, effect.words, lanes);
        answers.push({ type: 'folded', id: effect.id });
      } else if (effect.type === 'charge') {
        world.charges.push(effect);
        answers.push({ type: 'charged' });
      } else if (effect.type === 'unmask') {
        applyMasks(sum, lanes, effect.seeds, crypto);
        removeDropoutNoise(crypto, sum, params, effect.members, effect.components);
        answers.push({ type: 'unmasked', sum });
      } else if (effect.type === 'done') world.outcome = effect.outcome;
      else if (effect.type === 'abort') world.abort = effect.outcome;
    }
    for (const secret of step.consumed) secret.fill(0);
    for (const answer of answers) toAggregator(answer);
  };
  const member = (m: number, event: ParticipantEvent): void => {
    const step = (options.participantStep ?? stepParticipant)(crypto, world.states[m] as ParticipantState, event);
    world.states[m] = step.state;
    const answers: ParticipantEvent[] = [];
    for (const effect of step.effects) {
      world.effects.push({ member: m, effect });
      if (effect.type === 'authorize') answers.push({ type: 'authorized', census: options.census?.(m) ?? null });
      else if (effect.type === 'contribute') {
        const vector = (values[m] as Int32Array).slice();
        if (params.noise.tolerance !== undefined) {
          const base = crypto.aes256Ctr(baseNoiseSeed(m));
          addDropoutNoise(crypto, vector, params, effect.cohort.length, effect.components, base);
          const drawn = effect.components.map(({ number, seed }) => ({ number, seed: seed.slice() }));
          world.components.set(m, { members: effect.cohort.length, drawn });
          contributions.set(toHex((members[m] as { id: Uint8Array }).id), packLanes(vector, lanes));
        }
        answers.push({ type: 'contribution', words: packLanes(vector, lanes) });
      } else if (effect.type === 'charge') answers.push({ type: 'charged' });
      else if (effect.type === 'mask') {
        const words = effect.words.slice();
        applyMasks(words, lanes, effect.seeds, crypto);
        answers.push({ type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
      } else if (effect.type === 'send') send(m, effect.message);
      else if (effect.type === 'abort') world.memberAborts.set(m, effect);
      else if (effect.type === 'done') world.done.set(m, effect);
    }
    for (const secret of step.consumed) secret.fill(0);
    for (const answer of answers) member(m, answer);
  };
  const send = (m: number, message: SessionMessage): void => {
    const at = NEXT[message.type];
    if (lost.has(m)) return;
    if (at !== undefined && drops[at]?.includes(toHex((members[m] as { id: Uint8Array }).id)) === true) {
      lost.add(m);
      queue.push(() => toAggregator({ type: 'lost', id: (members[m] as { id: Uint8Array }).id }));
      return;
    }
    world.sent.push({ from: m, message });
    for (const delivered of list(options.fromMember?.(message, m, world) ?? (options.fromMember ? null : message))) {
      queue.push(() =>
        toAggregator({ type: 'message', from: (members[m] as { id: Uint8Array }).id, message: delivered }),
      );
    }
  };

  toAggregator({ type: 'open', params, attachment: utf8('models'), invited: members.map(({ id }) => id) });
  for (let passes = 0; passes < 100 && world.outcome === null && world.abort === null; passes++) {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
    // Nothing moves any more: the deadline of the phase passes.
    if (world.outcome === null && world.abort === null) toAggregator({ type: 'deadline', phase });
  }
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
  return world;
}

/** Plain ring sum over the given members. */
export function plainSum(world: World, ids: readonly Uint8Array[]): Uint32Array {
  const sum = new Uint32Array(ringWordCount(coordinateCount(world.params), world.params.ring.lanes));
  for (const id of ids) addWords(sum, world.contributions.get(toHex(id)) as Uint32Array, world.params.ring.lanes);
  return sum;
}
