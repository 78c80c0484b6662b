import { type AggregatorState, createAggregator, stepAggregator } from '../../protocol/aggregator.ts';
import { compareBytes, decodeParts, equalBytes, toHex, u32le, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { decodeBodies, encodeBodies, signList } from '../../protocol/messages.ts';
import { nodeId, rosterHash } from '../../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../../protocol/participant.ts';
import { addWords, applyMasks, packLanes, ringWordCount, wordsToBytes } from '../../protocol/ring.ts';
import { rankOf, sparseQuorum, strictThreshold } from '../../protocol/roster.ts';
import type {
  AggregatorEffect,
  AggregatorEvent,
  ParticipantEffect,
  ParticipantEvent,
  ParticipantRecord,
  Phase,
  Profile,
  Roster,
  SessionMessage,
  SessionParams,
} from '../../protocol/session.ts';

/*
 * One seeded world: the pure machines of a coordinator and its members, a network that loses, repeats, reorders and cuts
 * off, and processes that die between any two effects - or in the middle of a durable write - and start again from what
 * was durable. Everything random comes from one number, so a failure is repeated exactly. Monitors watch every effect.
 */

export interface Machines {
  readonly createParticipant: typeof createParticipant;
  readonly stepParticipant: typeof stepParticipant;
  readonly createAggregator: typeof createAggregator;
  readonly stepAggregator: typeof stepAggregator;
}

export const REAL_MACHINES: Machines = { createParticipant, stepParticipant, createAggregator, stepAggregator };

/**
 * A fault at one place of the plain schedule: a process dies before its n-th action (an action is one event or one effect, so
 * this is before or after any durable write), or the n-th packet is lost or comes twice.
 */
export type Fault =
  | { readonly kind: 'crash'; readonly actor: number | 'coordinator'; readonly at: number }
  | { readonly kind: 'lose' | 'repeat'; readonly at: number };

export interface WorldSettings {
  readonly seed: number;
  readonly crypto: CryptoProvider;
  readonly machines?: Machines;
  readonly members: number;
  /** Default strict. */
  readonly profile?: Profile;
  readonly rounds: number;
  /** Chances per choice, in thousandths. */
  readonly crash: number;
  readonly lose: number;
  readonly repeat: number;
  /** The coordinator lies: it forks, withholds and re-signs lists. */
  readonly malicious: boolean;
  /** Plans the world instead of drawing it: everything in order, and these faults. */
  readonly faults?: readonly Fault[];
}

export interface WorldReport {
  /** Actions of every member and of the coordinator, and packets: the places where faults can be put. */
  readonly actions: readonly number[];
  readonly packets: number;
  readonly releases: number;
  readonly aborts: Readonly<Record<string, number>>;
  readonly crashes: number;
  readonly lies: number;
  readonly steps: number;
  readonly trace: readonly string[];
}

/** A broken invariant. */
export class Violation extends Error {
  readonly trace: readonly string[];

  constructor(message: string, trace: readonly string[]) {
    super(message);
    this.trace = trace;
  }
}

/** sfc32: small, seedable, the same on every engine. */
export function createDice(seed: number): (below: number) => number {
  let [a, b, c, d] = [seed | 0, 0x9e3779b9 | 0, 0x243f6a88, 1];
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 12; i++) next();
  return (below) => next() % below;
}

interface Member {
  readonly index: number;
  readonly identity: { readonly id: Uint8Array; readonly publicKey: Uint8Array; readonly secretSeed: Uint8Array };
  state: ParticipantState;
  /** Events that wait until the effects of the last step are done. */
  events: ParticipantEvent[];
  effects: ParticipantEffect[];
  consumed: (Uint8Array | Uint32Array)[];
  isDown: boolean;
  isCut: boolean;
  readonly records: ParticipantRecord[];
  /** Sessions whose worst case is durably reserved. */
  readonly reserved: Set<string>;
}

interface Packet {
  readonly member: number;
  readonly toMember: boolean;
  readonly message: SessionMessage;
}

const MAX_STEPS = 30_000;
const MAX_ATTEMPTS = 12;
const LANES = 2;
const COORDINATES = 5;
const SHARED: Readonly<Record<string, readonly [Roster, Member['identity'][]]>> = {};

function createRoster(crypto: CryptoProvider, members: number): readonly [Roster, Member['identity'][]] {
  const key = `${crypto.name}/${members}`;
  const known = SHARED[key];
  if (known !== undefined) return known;
  const identities = Array.from({ length: members }, (_, i) => {
    const secretSeed = crypto.sha256(utf8(`member ${i}`));
    const publicKey = crypto.ed25519PublicKey(secretSeed);
    return { id: nodeId(crypto, publicKey), publicKey, secretSeed };
  }).sort((x, y) => compareBytes(x.id, y.id));
  const entries = identities.map(({ id, publicKey }, i) => ({ id, publicKey, organization: `org-${i}` }));
  const built = [{ version: 1, entries, revoked: [] }, identities] as const;
  (SHARED as Record<string, unknown>)[key] = built;
  return built as unknown as readonly [Roster, Member['identity'][]];
}

/** Runs one world to its end. @throws Violation */
export function runWorld(settings: WorldSettings): WorldReport {
  const { crypto, malicious } = settings;
  const machines = settings.machines ?? REAL_MACHINES;
  const { faults } = settings;
  const dice = faults === undefined ? createDice(settings.seed) : () => 0;
  const chance = (thousandths: number): boolean => faults === undefined && dice(1_000) < thousandths;
  const [roster, identities] = createRoster(crypto, settings.members);
  const coordinatorSeed = crypto.sha256(utf8('coordinator'));
  const coordinator = { secretSeed: coordinatorSeed, publicKey: crypto.ed25519PublicKey(coordinatorSeed) };
  const minSurvivors = 3;
  const { profile = 'strict' } = settings;
  const colluders = profile === 'sparse' ? 1 : 0;
  const quorumOf = (sid: string): number => {
    const count = cohortOf.get(sid) ?? settings.members;
    return profile === 'sparse' ? sparseQuorum(count, colluders) : strictThreshold(count);
  };
  const trace: string[] = [];
  const fail = (message: string): never => {
    throw new Violation(message, trace);
  };
  const say = (line: string): void => {
    trace.push(line);
  };
  let entropy = 0;
  const fresh = (): Uint8Array => crypto.sha256(utf8(`entropy ${settings.seed} ${entropy++}`));

  /** Actions so far: members by index, then the coordinator. */
  const actions: number[] = Array.from({ length: settings.members + 1 }, () => 0);
  let packetCount = 0;
  /** Counts an action; true if its process dies instead. */
  function dies(actor: number | 'coordinator'): boolean {
    const index = actor === 'coordinator' ? settings.members : actor;
    const at = actions[index] as number;
    actions[index] = at + 1;
    return faults?.some((fault) => fault.kind === 'crash' && fault.actor === actor && fault.at === at) === true;
  }

  // What monitors know.
  const contributions = new Map<string, Uint32Array>();
  const maskSeeds = new Map<string, string>();
  const uploads = new Map<string, string>();
  const agreements = new Map<string, Map<string, Set<number>>>();
  const ownAgreement = new Map<string, string>();
  const replies = new Map<string, string>();
  const survivorsOf = new Map<string, readonly string[]>();
  const opened = new Map<string, { b: Set<number>; s: Set<number> }>();
  const serverCharges = new Set<string>();
  const cohortOf = new Map<string, number>();
  /** By session and member: whose shares it holds in U2, and the threshold, as its machine computed them. */
  const dealersOf = new Map<string, readonly string[]>();
  const thresholdOf = new Map<string, number>();
  const aborts: Record<string, number> = {};
  let releases = 0;
  let crashes = 0;
  let lies = 0;

  const trust = { coordinatorKey: coordinator.publicKey, roster };
  const members: Member[] = identities.map((identity, index) => ({
    index,
    identity,
    state: machines.createParticipant(identity, trust, crypto, []),
    events: [],
    effects: [],
    consumed: [],
    isDown: false,
    isCut: false,
    records: [],
    reserved: new Set(),
  }));
  let aggregator: AggregatorState | null = null;
  let aggregatorEffects: AggregatorEffect[] = [];
  let aggregatorEvents: AggregatorEvent[] = [];
  let aggregatorConsumed: (Uint8Array | Uint32Array)[] = [];
  let sum = new Uint32Array(ringWordCount(COORDINATES, LANES));
  let phase: Phase = 'advertise';
  let packets: Packet[] = [];
  let round = 0;
  let attempt = 0;
  let released = 0;
  let attempts = 0;
  let excluded: readonly Uint8Array[] = [];
  let isOver = false;
  /** Messages of earlier sessions and phases that a liar may repeat. */
  const recorded: Packet[] = [];

  const paramsOf = (): SessionParams => ({
    protocol: 'covey/1',
    runId: '000102030405060708090a0b0c0d0e0f',
    round,
    purpose: 'train',
    attempt,
    groupId: 'all',
    mode: 'hybrid',
    slots: 1,
    layout: [{ segment: 'body', length: COORDINATES }],
    modelHash: crypto.sha256(utf8('model')),
    taskHash: crypto.sha256(utf8('task')),
    rosterHash: rosterHash(crypto, roster),
    rosterVersion: 1,
    ring: { lanes: LANES, bits: 32 },
    encoding: { clippingNorm: 1, scale: 65_536, rotationSeed: crypto.sha256(u32le(round)), rounding: 'toward-zero' },
    noise: { mechanism: 'discrete-gaussian', shareVariance: 4 },
    minSurvivors,
    minOrgs: 1,
    colluders,
    dropoutFraction: 0.25,
    maxLoss: 256,
    profile,
    deadlineMs: 1_000,
  });

  function openSession(): void {
    if (released >= settings.rounds || attempts >= MAX_ATTEMPTS) {
      isOver = true;
      return;
    }
    attempts += 1;
    // A coordinator waits for enough members; in a planned world it waits for all.
    if (faults !== undefined) for (const member of members) if (member.isDown) restartMember(member);
    const params = paramsOf();
    sum = new Uint32Array(ringWordCount(COORDINATES, LANES));
    aggregator = machines.createAggregator(coordinator, roster);
    aggregatorEffects = [];
    const invited = members
      .filter(({ isDown, identity }) => !isDown && !excluded.some((id) => equalBytes(id, identity.id)))
      .map(({ identity }) => identity.id);
    say(`coordinator opens round ${round} attempt ${attempt} for ${invited.length}`);
    aggregatorEvents = [{ type: 'open', params, attachment: utf8('models'), invited }];
  }

  function nextSession(spent: boolean): void {
    if (spent || attempt >= 15) {
      round += 1;
      attempt = 0;
    } else attempt += 1;
    openSession();
  }

  // ---- monitors -------------------------------------------------------------------------------------------------------

  function watchMemberSend(member: Member, message: SessionMessage): void {
    const sid = toHex(message.sid);
    const key = `${sid}/${member.index}`;
    if (message.type === 'p3') {
      const record = member.records.some((r) => r.kind === 'uploaded' && toHex(r.sid) === sid);
      if (!record) fail(`member ${member.index} uploads before its record is durable`);
      if (!member.reserved.has(sid)) fail(`member ${member.index} uploads before its charge is durable`);
      const digest = toHex(message.body);
      if ((uploads.get(key) ?? digest) !== digest) fail(`member ${member.index} uploads two vectors in one session`);
      uploads.set(key, digest);
    } else if (message.type === 'p4') {
      const h3 = toHex(decodeParts(message.body, 2)[1] as Uint8Array);
      if ((ownAgreement.get(key) ?? h3) !== h3) fail(`member ${member.index} signs two survivor sets`);
      ownAgreement.set(key, h3);
      if (!member.records.some((r) => r.kind === 'agreed' && toHex(r.sid) === sid))
        fail(`member ${member.index} signs survivors before its record is durable`);
      const byHash = agreements.get(sid) ?? new Map<string, Set<number>>();
      byHash.set(h3, (byHash.get(h3) ?? new Set()).add(member.index));
      agreements.set(sid, byHash);
      const threshold = quorumOf(sid);
      if ([...byHash.values()].filter((signers) => signers.size >= threshold).length > 1)
        fail('two survivor certificates exist for one session');
    } else if (message.type === 'p5') {
      const bytes = toHex(message.body);
      if ((replies.get(key) ?? bytes) !== bytes) fail(`member ${member.index} replies twice`);
      replies.set(key, bytes);
      if (!member.records.some((r) => r.kind === 'replied' && toHex(r.sid) === sid))
        fail(`member ${member.index} opens shares before its record is durable`);
      const h3 = toHex(decodeParts(message.body, 3)[1] as Uint8Array);
      const survivors = survivorsOf.get(`${key}/${h3}`);
      if (survivors === undefined) fail(`member ${member.index} opens shares without settling its charge`);
      const signers = agreements.get(sid)?.get(h3)?.size ?? 0;
      if (signers < quorumOf(sid))
        fail(`member ${member.index} opens shares without a certificate: ${signers} signatures exist`);
      if (!malicious && !serverCharges.has(`${sid}/${h3}`)) fail('shares leave a member before the server has charged');
      for (const dealer of dealersOf.get(key) ?? fail(`member ${member.index} opens shares of nobody it checked`)) {
        const both = opened.get(`${sid}/${dealer}`) ?? { b: new Set<number>(), s: new Set<number>() };
        (survivors?.includes(dealer) === true ? both.b : both.s).add(member.index);
        opened.set(`${sid}/${dealer}`, both);
        if (both.b.has(member.index) && both.s.has(member.index))
          fail(`member ${member.index} opens both shares of a dealer`);
        const threshold = thresholdOf.get(key) as number;
        if (both.b.size >= threshold && both.s.size >= threshold) fail('both secrets of a dealer can be reconstructed');
      }
    }
  }

  function watchHolder(member: Member, { session }: ParticipantState): void {
    if (session?.progress.stage !== 'agreed') return;
    const { cohort, dealers, held } = session.progress;
    const key = `${toHex(session.sid)}/${member.index}`;
    const ids = dealers.dealers.map(({ id }) => id).filter((id) => held.has(rankOf(cohort.advertisements, id)));
    if (profile === 'sparse' && ids.length > (cohort.plan?.degree ?? 0)) fail('more dealers than neighbours');
    dealersOf.set(key, ids.map(toHex));
    thresholdOf.set(key, cohort.threshold);
  }

  function watchMask(member: Member, effect: Extract<ParticipantEffect, { type: 'mask' }>): void {
    for (const { seed } of effect.seeds) {
      const key = `${member.index}/${toHex(seed)}`;
      if (maskSeeds.has(key)) fail(`member ${member.index} uses a mask twice`);
      maskSeeds.set(key, '');
    }
    if (new Set(effect.seeds.map(({ seed }) => toHex(seed))).size !== effect.seeds.length)
      fail('two masks have one seed');
  }

  function watchRelease(outcome: Extract<AggregatorEffect, { type: 'done' }>['outcome']): void {
    const sid = toHex(outcome.sid);
    if (outcome.survivors.length < minSurvivors) fail('a sum of fewer than the fewest survivors was released');
    if (!serverCharges.has(`${sid}/${toHex(outcome.h3)}`)) fail('a sum was released before the server charged it');
    const expected = new Uint32Array(sum.length);
    for (const id of outcome.survivors) {
      const member = members.find(({ identity }) => equalBytes(identity.id, id)) as Member;
      if (!member.reserved.has(sid)) fail(`a sum was released that member ${member.index} has not charged`);
      addWords(expected, contributions.get(`${sid}/${member.index}`) as Uint32Array, LANES);
    }
    if (expected.some((word, i) => word !== outcome.sum[i])) fail('the released sum is not the sum of the survivors');
    releases += 1;
  }

  // ---- members --------------------------------------------------------------------------------------------------------

  function crashMember(member: Member): void {
    crashes += 1;
    say(`member ${member.index} dies with ${member.effects.length} effects to do`);
    member.isDown = true;
    member.effects = [];
    member.events = [];
    for (const secret of member.consumed) secret.fill(0);
    member.consumed = [];
    aggregatorEvents.push({ type: 'lost', id: member.identity.id });
  }

  function restartMember(member: Member): void {
    say(`member ${member.index} starts again`);
    member.isDown = false;
    member.isCut = false;
    member.state = machines.createParticipant(member.identity, trust, crypto, member.records);
    aggregatorEvents.push({ type: 'reconnected', id: member.identity.id });
  }

  function runMemberEffect(member: Member): void {
    const effect = member.effects.shift() as ParticipantEffect;
    switch (effect.type) {
      case 'authorize':
        member.events.unshift({ type: 'authorized', census: null });
        break;
      case 'persist':
        // A torn write: the record is durable or it is not, and the process is gone either way.
        if (chance(settings.crash)) {
          if (dice(2) === 0) member.records.push(effect.record);
          crashMember(member);
          return;
        }
        member.records.push(effect.record);
        break;
      case 'contribute': {
        const own = 31 * (member.index + 1) + 7 * round;
        const values = Int32Array.from({ length: COORDINATES }, (_, i) => dice(2_001) - 1_000 + own * (i + 1));
        const words = packLanes(values, LANES);
        contributions.set(`${toHex(effect.sid)}/${member.index}`, words.slice());
        member.events.unshift({ type: 'contribution', words });
        break;
      }
      case 'charge':
        if (chance(settings.crash)) {
          if (dice(2) === 0) member.reserved.add(toHex(effect.sid));
          crashMember(member);
          return;
        }
        member.reserved.add(toHex(effect.sid));
        member.events.unshift({ type: 'charged' });
        break;
      case 'settle':
        survivorsOf.set(`${toHex(effect.sid)}/${member.index}/${toHex(effect.h3)}`, effect.survivors.map(toHex));
        break;
      case 'mask': {
        watchMask(member, effect);
        const words = effect.words.slice();
        applyMasks(words, LANES, effect.seeds, crypto);
        member.events.unshift({ type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
        break;
      }
      case 'send':
        watchMemberSend(member, effect.message);
        packets.push({ member: member.index, toMember: false, message: effect.message });
        break;
      case 'abort':
        aborts[effect.code] = (aborts[effect.code] ?? 0) + 1;
        say(`member ${member.index} aborts: ${effect.code} ${effect.reason}`);
        break;
      case 'done':
        break;
    }
    if (member.effects.length === 0) {
      for (const secret of member.consumed) secret.fill(0);
      member.consumed = [];
    }
  }

  function stepMember(member: Member): void {
    const event = member.events.shift() as ParticipantEvent;
    const step = machines.stepParticipant(crypto, member.state, event);
    watchHolder(member, step.state);
    member.state = step.state;
    member.effects = [...step.effects];
    member.consumed.push(...step.consumed);
    if (member.effects.length === 0) {
      for (const secret of member.consumed) secret.fill(0);
      member.consumed = [];
    }
  }

  // ---- coordinator ----------------------------------------------------------------------------------------------------

  function crashCoordinator(): void {
    crashes += 1;
    say('the coordinator dies');
    aggregator = null;
    aggregatorEffects = [];
    aggregatorEvents = [];
    // Its connections die with it. What was open is given up under a new number.
    packets = [];
    nextSession(true);
  }

  function runAggregatorEffect(): void {
    const effect = aggregatorEffects.shift() as AggregatorEffect;
    switch (effect.type) {
      case 'persist':
        if (effect.record.kind === 'u1') cohortOf.set(toHex(effect.record.sid), effect.record.ids.length);
        if (chance(settings.crash)) crashCoordinator();
        return;
      case 'send': {
        const member = members.find(({ identity }) => equalBytes(identity.id, effect.to)) as Member;
        const packet = { member: member.index, toMember: true, message: effect.message };
        if (recorded.length < 400) recorded.push(packet);
        for (const sent of malicious ? lie(packet) : [packet]) packets.push(sent);
        return;
      }
      case 'deadline':
        phase = effect.phase;
        return;
      case 'fold':
        addWords(sum, effect.words, LANES);
        aggregatorEvents.unshift({ type: 'folded', id: effect.id });
        return;
      case 'charge':
        // Durable or torn; only what is durable is answered.
        if (chance(settings.crash)) {
          crashCoordinator();
          return;
        }
        serverCharges.add(`${toHex(effect.sid)}/${toHex(effect.h3)}`);
        aggregatorEvents.unshift({ type: 'charged' });
        return;
      case 'unmask':
        applyMasks(sum, LANES, effect.seeds, crypto);
        aggregatorEvents.unshift({ type: 'unmasked', sum });
        return;
      case 'done':
        watchRelease(effect.outcome);
        say(`round ${round} is released for ${effect.outcome.survivors.length}`);
        released += 1;
        excluded = [];
        aggregatorEffects = [];
        nextSession(true);
        return;
      case 'abort': {
        const { code, uploadBegun, reason } = effect.outcome;
        aborts[`coordinator ${code}`] = (aborts[`coordinator ${code}`] ?? 0) + 1;
        say(`coordinator gives up: ${code} ${reason}`);
        excluded = effect.outcome.excluded;
        aggregatorEffects = [];
        nextSession(uploadBegun);
      }
    }
  }

  /** Other lists than the real ones, signed with the coordinator's key: to one member, to some, or besides the truth. */
  function lie(packet: Packet): Packet[] {
    if (!chance(250)) return [packet];
    lies += 1;
    const { message } = packet;
    const resign = (attachment: Uint8Array): Packet => ({
      ...packet,
      message: signList(crypto, coordinator.secretSeed, message.type, message.sid, attachment),
    });
    const relist = (keep: (index: number, count: number) => boolean): Packet => {
      const entries = decodeBodies('p1', message.attachment);
      return resign(encodeBodies(entries.filter((_, i) => keep(i, entries.length))));
    };
    const isList =
      message.type === 'p1-all' || message.type === 'p1r-all' || message.type === 'p4-ask' || message.type === 'p5-ask';
    const what = dice(isList ? 6 : 3);
    say(`lie ${what} about ${message.type} to member ${packet.member}`);
    if (what === 0) return [];
    if (what === 1) return [packet, packet];
    if (what === 2) return [...recorded.filter(() => dice(recorded.length) < 3), packet];
    const gone = dice(12);
    if (what === 3) return [relist((i) => i !== gone)];
    if (what === 4) return [packet, relist((i) => i !== gone)];
    return [relist((i, count) => i < count - 1 - (gone % 3)), packet];
  }

  // ---- the schedule ---------------------------------------------------------------------------------------------------

  function deliver(index: number): void {
    const [packet] = packets.splice(index, 1) as [Packet];
    const member = members[packet.member] as Member;
    const at = packetCount++;
    const planned = faults?.find((fault) => fault.kind !== 'crash' && fault.at === at);
    if (planned?.kind === 'lose' || chance(settings.lose)) {
      say(`lost: ${packet.message.type} ${packet.toMember ? 'to' : 'from'} member ${packet.member}`);
      return;
    }
    if (planned?.kind === 'repeat' || chance(settings.repeat)) packets.push(packet);
    if (member.isCut || member.isDown) return;
    if (packet.toMember) {
      const { message } = packet;
      member.events.push(
        message.type === 'p0' ? { type: 'open', message, entropy: fresh() } : { type: 'message', message },
      );
    } else if (aggregator !== null)
      aggregatorEvents.push({ type: 'message', from: member.identity.id, message: packet.message });
  }

  function disturb(): void {
    const member = members[dice(members.length)] as Member;
    switch (dice(5)) {
      case 0:
        if (!member.isDown && chance(settings.crash * 10)) crashMember(member);
        return;
      case 1:
        if (member.isDown) restartMember(member);
        return;
      case 2:
        if (chance(settings.lose * 5)) {
          member.isCut = !member.isCut;
          say(`member ${member.index} is ${member.isCut ? 'cut off' : 'back'}`);
          if (!member.isCut) {
            aggregatorEvents.push({ type: 'reconnected', id: member.identity.id });
            member.events.push({ type: 'resend' });
          } else if (dice(3) === 0) aggregatorEvents.push({ type: 'lost', id: member.identity.id });
        }
        return;
      case 3:
        if (chance(settings.crash * 3)) crashCoordinator();
        return;
      default:
        if (chance(settings.lose)) aggregatorEvents.push({ type: 'deadline', phase });
    }
  }

  openSession();
  let steps = 0;
  for (; !isOver; steps++) {
    if (steps > MAX_STEPS) fail('the run does not end');
    if (faults === undefined && dice(20) === 0) disturb();
    const ready: (() => void)[] = [];
    for (const member of members) {
      if (member.isDown) continue;
      const act = member.effects.length > 0 ? runMemberEffect : member.events.length > 0 ? stepMember : null;
      if (act !== null) ready.push(() => (dies(member.index) ? crashMember(member) : act(member)));
    }
    if (aggregatorEffects.length > 0)
      ready.push(() => (dies('coordinator') ? crashCoordinator() : runAggregatorEffect()));
    else if (aggregator !== null && aggregatorEvents.length > 0) {
      ready.push(() => {
        if (dies('coordinator')) {
          crashCoordinator();
          return;
        }
        const step = machines.stepAggregator(
          crypto,
          aggregator as AggregatorState,
          aggregatorEvents.shift() as AggregatorEvent,
        );
        aggregator = step.state;
        aggregatorEffects = [...step.effects];
        for (const secret of aggregatorConsumed) secret.fill(0);
        aggregatorConsumed = [...step.consumed];
      });
    }
    if (packets.length > 0) ready.push(() => deliver(dice(packets.length)));
    if (ready.length > 0) (ready[dice(ready.length)] as () => void)();
    else {
      // Nothing moves: whoever is away comes back or the deadline passes.
      for (const member of members) {
        if (member.isDown && dice(2) === 0) restartMember(member);
        else if (member.isCut && dice(2) === 0) {
          member.isCut = false;
          aggregatorEvents.push({ type: 'reconnected', id: member.identity.id });
          member.events.push({ type: 'resend' });
        }
      }
      aggregatorEvents.push({ type: 'deadline', phase });
    }
  }
  // Members that are left in a session end it by their own clock and keep nothing.
  for (const member of members) {
    if (member.isDown) continue;
    let guard = 0;
    while (member.effects.length > 0 || member.events.length > 0) {
      if (member.isDown || guard++ > 1_000) break;
      if (member.effects.length > 0) runMemberEffect(member);
      else stepMember(member);
    }
    if (member.isDown) continue;
    member.events.push({ type: 'deadline' });
    while ((member.effects.length > 0 || member.events.length > 0) && !member.isDown) {
      if (member.effects.length > 0) runMemberEffect(member);
      else stepMember(member);
    }
    const stage = member.state.session?.progress.stage ?? 'closed';
    if (!member.isDown && stage !== 'closed') fail(`member ${member.index} is stuck in ${stage}`);
  }
  return { actions, packets: packetCount, releases, aborts, crashes, lies, steps, trace };
}

/** The world of a seed: calm, stormy or run by a liar, so that every kind is met often. */
export function settingsOf(seed: number, crypto: CryptoProvider, machines?: Machines): WorldSettings {
  const dice = createDice(seed ^ 0x5eed);
  const kind = dice(4);
  const stormy = kind === 1 || kind === 2;
  const members = 4 + dice(3);
  // A ring needs more members than a complete graph and ten times the steps; every eighth world has one.
  const isSparse = seed % 8 === 2;
  return {
    seed,
    crypto,
    ...(machines === undefined ? {} : { machines }),
    members: isSparse ? 12 + (members - 4) : members,
    profile: isSparse ? 'sparse' : 'strict',
    rounds: 2,
    crash: kind === 0 ? 0 : stormy ? 4 + dice(12) : dice(4),
    lose: kind === 0 ? 0 : stormy ? dice(40) : dice(10),
    repeat: kind === 0 ? 0 : dice(60),
    malicious: kind === 3,
  };
}
