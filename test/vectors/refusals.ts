import { type AggregatorState, createAggregator, stepAggregator } from '../../protocol/aggregator.ts';
import { encodeParts, equalBytes, fromHex, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import type { ErrorCode } from '../../protocol/errors.ts';
import { decodeParams } from '../../protocol/params.ts';
import type { ParticipantState } from '../../protocol/participant.ts';
import type { AggregatorEffect, AggregatorEvent, MessageType, SessionMessage } from '../../protocol/session.ts';
import {
  decodeMessageVector,
  feedMember,
  type LocalVector,
  type MemberVector,
  type MessageVector,
  rosterOf,
  type SessionVector,
  startMember,
} from './replay.ts';

/* Messages that must be refused. The format is described in protocol/SPEC.md, appendix. */

/** A frozen message with other fields. `body` and `attachment` are pieces: hex, or `offset:length` of the frozen field. */
export interface AlteredVector {
  readonly of: number;
  readonly type?: MessageType;
  readonly sid?: string;
  readonly body?: string;
  readonly attachment?: string;
  readonly signature?: string;
}

export interface RefusalVector {
  /** Who refuses: the member at `member`, or the coordinator what that member sends. */
  readonly by: 'member' | 'coordinator';
  readonly session: 'strict' | 'sparse';
  readonly member: number;
  /** Name of the check in SPEC section 9, and what was altered. */
  readonly check: string;
  readonly altered: string;
  readonly local?: LocalVector;
  /** Coordinator only: it has everything before this type, and this type of the members before this one. */
  readonly phase?: MessageType;
  /** Number of frozen messages of this member that come before. */
  readonly after: number;
  /** The last one is refused; those before it are accepted. */
  readonly messages: readonly AlteredVector[];
  readonly code: ErrorCode | 'ignored';
  /** Members that are named. */
  readonly accused: readonly string[];
  /** What the one that refuses answers; an abort and a complaint hold the code. */
  readonly answer: 'abort' | 'complaint' | 'nothing';
}

/** The whole field that pieces describe. */
function join(pieces: string | undefined, frozen: string): string {
  if (pieces === undefined) return frozen;
  return pieces
    .split(' ')
    .map((piece) => {
      const [offset, length] = piece.split(':').map(Number) as [number, number | undefined];
      return length === undefined ? piece : frozen.slice(2 * offset, 2 * (offset + length));
    })
    .join('');
}

function restore({ of, ...fields }: AlteredVector, frozen: readonly MessageVector[]): SessionMessage {
  const from = frozen[of] as MessageVector;
  return decodeMessageVector({
    ...from,
    ...fields,
    body: join(fields.body, from.body),
    attachment: join(fields.attachment, from.attachment),
  });
}

/** Where a run of a case ended: what was refused, who was named, what was answered. */
interface Outcome {
  readonly code: RefusalVector['code'] | 'accepted';
  readonly accused: readonly string[];
  readonly answers: readonly SessionMessage[];
}

/** Machines in front of a frozen message; they are pure, so that many cases can start from one of them. */
interface Prefixes {
  readonly members: Map<string, ParticipantState>;
  readonly coordinators: Map<string, AggregatorState>;
}

function memberBefore(
  crypto: CryptoProvider,
  members: Prefixes['members'],
  session: SessionVector,
  refusal: RefusalVector,
  after: number,
): ParticipantState {
  const { local } = refusal;
  const name = JSON.stringify([refusal.session, refusal.member, local, after]);
  const member = session.members[refusal.member] as MemberVector;
  const known = members.get(name);
  if (known !== undefined) return known;
  const state =
    after === 0
      ? startMember(crypto, session, member, local)
      : feedMember(
          crypto,
          memberBefore(crypto, members, session, refusal, after - 1),
          member,
          decodeMessageVector(member.received[after - 1] as MessageVector),
          local,
        ).state;
  members.set(name, state);
  return state;
}

function refusedByMember(
  crypto: CryptoProvider,
  prefixes: Prefixes,
  session: SessionVector,
  refusal: RefusalVector,
): Outcome {
  const member = session.members[refusal.member] as MemberVector;
  let state = memberBefore(crypto, prefixes.members, session, refusal, refusal.after);
  let outcome: Outcome = { code: 'accepted', accused: [], answers: [] };
  for (const altered of refusal.messages) {
    // Whatever comes before the last message has to be accepted.
    if (outcome.code !== 'accepted') throw new Error(`refused too early: ${outcome.code}`);
    const { state: next, effects } = feedMember(
      crypto,
      state,
      member,
      restore(altered, member.received),
      refusal.local,
    );
    state = next;
    const answers = effects.flatMap((effect) => (effect.type === 'send' ? [effect.message] : []));
    const abort = effects.find((effect) => effect.type === 'abort');
    outcome =
      abort?.type === 'abort'
        ? { code: abort.code, accused: abort.accused.map(toHex), answers }
        : { code: effects.length === 0 ? 'ignored' : 'accepted', accused: [], answers };
    // Two messages that contradict each other are kept, whatever is said about them.
    const isProof = abort?.type === 'abort' && abort.evidence.length === 2;
    if (isProof !== (refusal.check === 'one message' && altered === refusal.messages.at(-1)))
      throw new Error('evidence expected of two messages of one type');
  }
  return outcome;
}

const UPWARD: readonly MessageType[] = ['p1', 'p1r', 'p2', 'p3', 'p4', 'p5'];

/** One event and everything that the driver answers. */
function feedCoordinator(
  crypto: CryptoProvider,
  start: AggregatorState,
  event: AggregatorEvent,
): { readonly state: AggregatorState; readonly effects: readonly AggregatorEffect[] } {
  let state = start;
  const effects: AggregatorEffect[] = [];
  const events = [event];
  for (let next = events.shift(); next !== undefined; next = events.shift()) {
    const step = stepAggregator(crypto, state, next);
    state = step.state;
    effects.push(...step.effects);
    for (const effect of step.effects) {
      if (effect.type === 'fold') events.unshift({ type: 'folded', id: effect.id });
      else if (effect.type === 'charge') events.unshift({ type: 'charged' });
    }
  }
  return { state, effects };
}

const idsOf = (crypto: CryptoProvider, session: SessionVector): Uint8Array[] =>
  session.members.map(({ secretSeed }) => crypto.sha256(crypto.ed25519PublicKey(fromHex(secretSeed))));

/** The coordinator of a frozen session in a phase, after the members before this one. The upload of one member is lost. */
function coordinatorIn(
  crypto: CryptoProvider,
  { coordinators }: Prefixes,
  session: SessionVector,
  refusal: RefusalVector,
): AggregatorState {
  const { phase, member } = refusal;
  const name = JSON.stringify([refusal.session, phase, member]);
  const known = coordinators.get(name);
  if (known !== undefined) return known;
  const ids = idsOf(crypto, session);
  const p0 = decodeMessageVector(session.members[0]?.received[0] as MessageVector);
  const secretSeed = fromHex(session.coordinatorSeed);
  const identity = { secretSeed, publicKey: crypto.ed25519PublicKey(secretSeed) };
  let state = createAggregator(identity, rosterOf(session));
  const feed = (event: AggregatorEvent): void => {
    state = feedCoordinator(crypto, state, event).state;
  };
  feed({ type: 'open', params: decodeParams(p0.body), attachment: p0.attachment, invited: ids });
  for (const type of UPWARD.slice(0, UPWARD.indexOf(phase as MessageType) + 1)) {
    session.members.forEach(({ sent }, m) => {
      if (type === phase && m >= member) return;
      const from = ids[m] as Uint8Array;
      const isLost = type === 'p3' && !session.survivors.includes(toHex(from));
      const message = isLost ? undefined : sent.find((vector) => vector.type === type);
      if (message !== undefined) feed({ type: 'message', from, message: decodeMessageVector(message) });
      // Only the committee of a sparse session reveals.
      else if (type !== 'p1r') feed({ type: 'lost', id: from });
    });
  }
  coordinators.set(name, state);
  return state;
}

function refusedByCoordinator(
  crypto: CryptoProvider,
  prefixes: Prefixes,
  session: SessionVector,
  refusal: RefusalVector,
): Outcome {
  const { sent } = session.members[refusal.member] as MemberVector;
  const from = idsOf(crypto, session)[refusal.member] as Uint8Array;
  let state = coordinatorIn(crypto, prefixes, session, refusal);
  // Its own message of this phase, where another one follows.
  for (const own of sent.slice(0, refusal.after).filter(({ type }) => type === refusal.phase))
    state = feedCoordinator(crypto, state, { type: 'message', from, message: decodeMessageVector(own) }).state;
  const message = restore(refusal.messages[0] as AlteredVector, sent);
  const step = feedCoordinator(crypto, state, { type: 'message', from, message });
  const faults = (step.state.session?.faults ?? []).slice(state.session?.faults.length);
  const answers = step.effects.flatMap((effect) =>
    effect.type === 'send' && equalBytes(effect.to, from) ? [effect.message] : [],
  );
  const fault = faults.find(({ reportedBy }) => reportedBy === 'coordinator');
  return {
    code: fault?.code ?? (step.state === state ? 'ignored' : 'accepted'),
    accused: faults.map(({ id }) => toHex(id)),
    answers,
  };
}

/** The answer to a refused message: of its type, with the code, and nothing besides. */
function isRightAnswer(
  crypto: CryptoProvider,
  session: SessionVector,
  { by, member, answer, code, accused }: RefusalVector,
  answers: readonly SessionMessage[],
): boolean {
  const [only, ...more] = answers;
  if (only === undefined) return answer === 'nothing';
  if (more.length > 0 || only.type !== answer) return false;
  const id = by === 'member' ? (idsOf(crypto, session)[member] as Uint8Array) : new Uint8Array(0);
  if (answer === 'abort') return equalBytes(only.body, encodeParts([id, utf8(code)]));
  // h1 stands in every P2, at 40 bytes from its start; a complaint is always about the cohort of the frozen session.
  const p2 = session.members[member]?.sent.find(({ type }) => type === 'p2') as MessageVector;
  const h1 = fromHex(p2.body.slice(80, 144));
  return equalBytes(only.body, encodeParts([id, h1, fromHex(accused[0] ?? ''), utf8(code)]));
}

/** Verifies each signature once: most cases look at the same lists. */
function remembering(crypto: CryptoProvider): CryptoProvider {
  const verdicts = new Map<string, boolean>();
  return {
    ...crypto,
    ed25519Verify(signature, message, publicKey) {
      const name = [signature, message, publicKey].map(toHex).join();
      const verdict = verdicts.get(name) ?? crypto.ed25519Verify(signature, message, publicKey);
      verdicts.set(name, verdict);
      return verdict;
    },
  };
}

/** Cases that a provider, or a machine, does not refuse as they say. */
export function failedRefusals(
  provider: CryptoProvider,
  sessions: Readonly<Record<RefusalVector['session'], SessionVector>>,
  refusals: readonly RefusalVector[],
): string[] {
  const crypto = remembering(provider);
  const prefixes: Prefixes = { members: new Map(), coordinators: new Map() };
  return refusals.flatMap((refusal) => {
    const session = sessions[refusal.session];
    const name = `${refusal.session}, by the ${refusal.by}, ${refusal.check}: ${refusal.altered}`;
    let got: string;
    try {
      const run = refusal.by === 'member' ? refusedByMember : refusedByCoordinator;
      const { code, accused, answers } = run(crypto, prefixes, session, refusal);
      if (
        code === refusal.code &&
        accused.join() === refusal.accused.join() &&
        isRightAnswer(crypto, session, refusal, answers)
      )
        return [];
      got = `${code}, names ${accused.length}, ${answers.map(({ type }) => type).join() || 'nothing'}`;
    } catch (error) {
      got = String(error);
    }
    return [`${name}: ${refusal.code} expected, got ${got}`];
  });
}
