import {
  compareBytes,
  concatBytes,
  fromBase64,
  fromHex,
  hashParts,
  toHex,
  u8,
  u32le,
  utf8,
} from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { LABELS } from '../../protocol/labels.ts';
import { decodeParams, rosterHash, sessionId } from '../../protocol/params.ts';
import { sparseQuorum, strictThreshold } from '../../protocol/roster.ts';
import type { SessionParams } from '../../protocol/session.ts';
import type { EntryBody, EntryType, SessionKind } from './bodies.ts';
import { canonicalJson } from './canonical-json.ts';
import { checkLayout } from './check-layout.ts';
import { type AuditLocation, failAudit, inClass } from './failures.ts';
import { announcedLabels } from './labels.ts';
import { announcedMetrics, isMetricsStep } from './metrics.ts';
import type { LocatedEntry } from './read-log.ts';

type Body<T extends EntryType> = { readonly at: AuditLocation; readonly body: EntryBody<T> };

/** One session as the log tells it. */
export interface SessionHistory {
  readonly sid: string;
  readonly kind: SessionKind;
  readonly params: SessionParams;
  readonly opened: Body<'round.open'>;
  readonly reserved: Map<string, Body<'client.charge'>>;
  readonly settled: Map<string, Body<'client.charge'>>;
  charge?: Body<'charge.reserve'>;
  unmask?: Body<'round.unmask'>;
  release?: Body<'round.release'>;
  abort?: Body<'round.abort'>;
  census?: Body<'cluster.census'>;
  assign?: Body<'cluster.assign'>;
  histogram?: Body<'metrics.histogram'>;
  probe?: Body<'cluster.probe'>;
}

/** A run as its log tells it, after every rule held. */
export interface RunHistory {
  readonly federation: string;
  readonly run: string;
  readonly genesis: EntryBody<'genesis'>;
  readonly open: EntryBody<'run.open'>;
  readonly openedAt: AuditLocation;
  readonly coordinator: string;
  /** In the order in which they were opened. */
  readonly sessions: readonly SessionHistory[];
  readonly blocks: readonly Body<'budget.block'>[];
  readonly exports: readonly Body<'model.export'>[];
  readonly incidents: readonly Body<'incident'>[];
  /** Members that left before the end because their budget was used up. */
  readonly leaves: ReadonlyMap<string, Body<'client.leave'>>;
  readonly firstTime: string;
  readonly lastTime: string;
}

const PURPOSES = ['census', 'train', 'metrics'] as const;
const KINDS = ['seats', 'choice', 'train', 'metrics', 'labels', 'gaps'] as const;

class Replay {
  readonly #crypto: CryptoProvider;
  readonly #genesis: EntryBody<'genesis'>;
  readonly #open: EntryBody<'run.open'>;
  readonly #configHash: Uint8Array;
  readonly #run: string;
  readonly #members: ReadonlySet<string>;
  readonly sessions = new Map<string, SessionHistory>();
  readonly blocks: Body<'budget.block'>[] = [];
  readonly exports: Body<'model.export'>[] = [];
  readonly incidents: Body<'incident'>[] = [];
  /** By member. */
  readonly leaves = new Map<string, Body<'client.leave'>>();
  #order: readonly number[] = [-1, -1, -1];
  #latest: SessionHistory | undefined;

  constructor(genesis: EntryBody<'genesis'>, open: EntryBody<'run.open'>, run: string, crypto: CryptoProvider) {
    this.#crypto = crypto;
    this.#genesis = genesis;
    this.#open = open;
    this.#run = run;
    this.#members = new Set(genesis.members.map(({ id }) => id));
    this.#configHash = hashParts(crypto, utf8(LABELS.runConfig), utf8(canonicalJson(open.config)));
  }

  get configHash(): Uint8Array {
    return this.#configHash;
  }

  #session(sid: string, at: AuditLocation): SessionHistory {
    return this.sessions.get(sid) ?? failAudit('rules', at, `session ${sid.slice(0, 12)} was never opened`);
  }

  openRound(at: AuditLocation, body: EntryBody<'round.open'>): void {
    const params = inClass('rules', at, () => decodeParams(fromBase64(body.params)));
    const expect = (holds: boolean, message: string): void => {
      if (!holds) failAudit('rules', at, message);
    };
    expect(this.blocks.length === 0, 'a session was opened after the budget was used up');
    expect(toHex(sessionId(this.#crypto, params)) === body.sid, '"sid" is not the hash of the session parameters');
    expect(params.runId === this.#run, '"params" are of another run');
    const same =
      params.round === body.round &&
      params.purpose === body.purpose &&
      params.attempt === body.attempt &&
      params.slots === body.slots;
    expect(same, '"params" say another round, purpose, attempt or number of slots');
    const roster =
      toHex(params.rosterHash) === this.#genesis.rosterHash && params.rosterVersion === this.#genesis.rosterVersion;
    expect(roster, '"params" name another roster');
    const kind =
      KINDS.find((candidate) => candidate === body.kind) ??
      failAudit('rules', at, `a session of kind ${body.kind} cannot be derived`);
    if (kind === 'metrics') {
      const place = announcedMetrics(this.#open) === null ? 'in a run without metrics' : `after step ${body.step}`;
      expect(isMetricsStep(this.#open, body.step), `accuracies were asked for outside of the schedule: ${place}`);
      const twice = [...this.sessions.values()].some(
        (other) =>
          other.kind === kind &&
          other.release !== undefined &&
          other.opened.body.step === body.step &&
          other.params.groupId === params.groupId,
      );
      expect(!twice, `the accuracies after step ${body.step} were released before`);
    }
    if (kind === 'labels') {
      expect(announcedLabels(this.#open) !== null, 'label counts were asked for in a run that announces none');
      const before = [...this.sessions.values()].some((other) => other.kind !== kind || other.release !== undefined);
      expect(body.step === 0 && !before, 'label counts are released once, before everything else');
    }
    const task = hashParts(
      this.#crypto,
      utf8(LABELS.task),
      this.#configHash,
      concatBytes(u8(KINDS.indexOf(kind)), u32le(body.step)),
    );
    expect(toHex(params.taskHash) === toHex(task), '"params" bind another task');
    expect(
      params.purpose === (kind === 'train' || kind === 'metrics' ? kind : 'census'),
      `a session of kind ${kind} has purpose ${params.purpose}`,
    );
    const { plan } = this.#open;
    const least = announcedLeast(this.#open);
    expect(params.minSurvivors >= least, `"minSurvivors" expected at least ${least}, got ${params.minSurvivors}`);
    expect(
      params.colluders >= plan.colluders,
      `"colluders" expected at least ${plan.colluders}, got ${params.colluders}`,
    );
    expect(
      body.invited <= this.#members.size && (params.profile === 'sparse' || 3 * params.colluders < body.invited),
      '"invited" expected a cohort of the roster, in the strict profile above 3c',
    );
    // (round, purpose, attempt) grows in this order, and a number under which an upload may have left is spent. protocol 2, 4
    const order = [params.round, PURPOSES.indexOf(params.purpose), params.attempt];
    expect(compareOrder(this.#order, order) < 0, 'round, purpose and attempt expected to grow');
    const retried = [...this.sessions.values()].filter(
      (other) => other.params.round === params.round && other.params.purpose === params.purpose,
    );
    const spent = retried.find(
      (other) =>
        other.charge !== undefined ||
        other.reserved.size > 0 ||
        other.abort?.body.uploadBegun === true ||
        other.abort === undefined,
    );
    expect(spent === undefined, `round ${params.round} is spent: an upload may have begun before this attempt`);
    this.#order = order;
    this.#latest = { sid: body.sid, kind, params, opened: { at, body }, reserved: new Map(), settled: new Map() };
    this.sessions.set(body.sid, this.#latest);
  }

  charge(at: AuditLocation, body: EntryBody<'charge.reserve'>): void {
    const session = this.#session(body.sid, at);
    const { params } = session;
    const expect = (holds: boolean, message: string): void => {
      if (!holds) failAudit('rules', at, message);
    };
    expect(session.charge === undefined, 'a second survivor set was charged for one session');
    expect(session.abort === undefined && session.release === undefined, 'a session was charged after its end');
    expect(body.round === params.round && body.purpose === params.purpose, '"charge" names another round or purpose');
    expect(body.colluders === params.colluders, `"colluders" expected ${params.colluders}, got ${body.colluders}`);
    const { survivors } = body;
    expect(new Set(survivors).size === survivors.length, '"survivors" expected distinct members');
    const stranger = survivors.find((id) => !this.#members.has(id));
    expect(stranger === undefined, `survivor ${stranger?.slice(0, 12)} is not on the roster`);
    expect(survivors.length <= session.opened.body.invited, 'more survivors than were invited');
    expect(
      survivors.length >= params.minSurvivors,
      `"survivors" expected at least ${params.minSurvivors}, got ${survivors.length}`,
    );
    const organizations = new Set(
      this.#genesis.members.filter(({ id }) => survivors.includes(id)).map(({ organization }) => organization),
    );
    expect(
      organizations.size >= params.minOrgs,
      `"survivors" expected at least ${params.minOrgs} organizations, got ${organizations.size}`,
    );
    const gone = survivors.find((id) => this.leaves.has(id));
    expect(gone === undefined, `survivor ${gone?.slice(0, 12)} had left the run`);
    const silent = survivors.find((id) => !session.reserved.has(id));
    expect(silent === undefined, `survivor ${silent?.slice(0, 12)} has not charged its own ledger before`);
    session.charge = { at, body };
  }

  unmask(at: AuditLocation, body: EntryBody<'round.unmask'>): void {
    const session = this.#session(body.sid, at);
    if (session.charge?.body.h3 !== body.h3)
      failAudit('rules', at, 'unmasking was requested without an earlier charge for this survivor set');
    if (session.unmask !== undefined || session.abort !== undefined)
      failAudit('rules', at, 'unmasking was requested twice or after an abort');
    if (body.requests > session.charge.body.survivors.length)
      failAudit('rules', at, 'more members were asked than survived');
    session.unmask = { at, body };
  }

  release(at: AuditLocation, body: EntryBody<'round.release'>): void {
    const session = this.#session(body.sid, at);
    const expect = (holds: boolean, message: string): void => {
      if (!holds) failAudit('rules', at, message);
    };
    expect(
      session.unmask?.body.h3 === body.h3,
      'a sum was released without an earlier request to unmask this survivor set',
    );
    expect(session.release === undefined, 'a session released twice');
    expect(session.abort === undefined, 'an aborted session released a sum');
    expect(
      body.survivors === session.charge?.body.survivors.length,
      '"survivors" differ from the ones that were charged',
    );
    expect(
      body.u1 >= body.u2 && body.u2 >= body.survivors && body.u1 <= session.opened.body.invited,
      'the member sets do not shrink',
    );
    // What a certificate needs follows from U1. protocol 4 and 5
    const { profile, colluders } = session.params;
    const threshold = profile === 'strict' ? strictThreshold(body.u1) : sparseQuorum(body.u1, colluders);
    expect(body.threshold === threshold, `"threshold" expected ${threshold}, got ${body.threshold}`);
    expect(
      body.survivors >= threshold,
      `"survivors" expected at least the threshold ${threshold}, got ${body.survivors}`,
    );
    expect(profile === 'sparse' || 3 * colluders < body.u1, '"u1" expected more than three times the colluders');
    session.release = { at, body };
  }

  abort(at: AuditLocation, body: EntryBody<'round.abort'>): void {
    const session = this.#session(body.sid, at);
    if (session.release !== undefined || session.abort !== undefined) failAudit('rules', at, 'a session ended twice');
    if (body.round !== session.params.round) failAudit('rules', at, '"abort" names another round');
    session.abort = { at, body };
  }

  clientCharge(at: AuditLocation, actor: string, body: EntryBody<'client.charge'>): void {
    const session = this.#session(body.sid, at);
    const expect = (holds: boolean, message: string): void => {
      if (!holds) failAudit('rules', at, message);
    };
    expect(
      body.round === session.params.round && body.purpose === session.params.purpose,
      '"charge" names another round or purpose',
    );
    expect(!this.leaves.has(actor), 'a participant charged itself after it had left the run');
    const book = body.kind === 'reserve' ? session.reserved : session.settled;
    expect(!book.has(actor), `a participant wrote two ${body.kind} entries for one session`);
    if (body.kind === 'reserve') {
      // Write-ahead: what is reserved covers the fewest survivors that the session accepts. privacy section 1
      expect(
        body.survivors <= session.params.minSurvivors,
        `a reserve expected at most ${session.params.minSurvivors} survivors, got ${body.survivors}`,
      );
      const later =
        this.#latest !== session &&
        this.#latest?.params.round === session.params.round &&
        this.#latest.params.purpose === session.params.purpose;
      expect(!later, 'an upload may have left in an attempt that was followed by another');
    } else {
      expect(session.reserved.has(actor), 'a charge was settled that was never reserved');
      expect(
        session.charge?.body.survivors.includes(actor) === true,
        'a charge was settled before or without the coordinator charging this member',
      );
      expect(
        body.survivors === session.charge?.body.survivors.length,
        '"survivors" of a settled charge differ from the certified ones',
      );
    }
    book.set(actor, { at, body });
  }

  leave(at: AuditLocation, actor: string, body: EntryBody<'client.leave'>): void {
    if (!this.#members.has(actor)) failAudit('rules', at, 'somebody left who is not on the roster');
    if (this.leaves.has(actor)) failAudit('rules', at, 'a participant left twice');
    this.leaves.set(actor, { at, body });
  }

  census(at: AuditLocation, body: EntryBody<'cluster.census'>): void {
    const session = this.#session(body.sid, at);
    if (session.release === undefined || session.kind !== 'choice')
      failAudit('rules', at, 'counts without a released census');
    if (body.counts.length !== session.params.slots)
      failAudit('rules', at, `"counts" expected ${session.params.slots} slots, got ${body.counts.length}`);
    session.census = { at, body };
  }

  probe(at: AuditLocation, body: EntryBody<'cluster.probe'>): void {
    const session = this.#session(body.sid, at);
    if (session.release === undefined || session.kind !== 'gaps' || session.probe !== undefined)
      failAudit('rules', at, 'the end of a probe without released gaps');
    if (body.step !== session.opened.body.step) failAudit('rules', at, '"step" is not the one of the session');
    session.probe = { at, body };
  }

  histogram(at: AuditLocation, body: EntryBody<'metrics.histogram'>): void {
    const session = this.#session(body.sid, at);
    if (session.release === undefined || session.kind !== 'metrics' || session.histogram !== undefined)
      failAudit('rules', at, 'a histogram without a released metrics session');
    if (body.step !== session.opened.body.step) failAudit('rules', at, '"step" is not the one of the session');
    session.histogram = { at, body };
  }

  assign(at: AuditLocation, body: EntryBody<'cluster.assign'>): void {
    const session = this.#latest;
    const counts = session?.census?.body.counts.map(Number);
    if (session === undefined || counts === undefined) {
      failAudit('rules', at, 'slots were assigned without a census');
    }
    const { kept } = body;
    const ascending = kept.every((slot, i) => slot < counts.length && (i === 0 || slot > (kept[i - 1] as number)));
    if (!ascending) failAudit('rules', at, '"kept" expected ascending slots of the census');
    const dropped = counts.filter((_, slot) => !kept.includes(slot));
    const least = Math.min(...kept.map((slot) => counts[slot] as number));
    if (dropped.some((count) => count > least))
      failAudit('rules', at, '"kept" expected the slots with the largest noisy counts');
    session.assign = { at, body };
  }
}

function compareOrder(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Fewest survivors that sessions may come to when members leave; those of the plan where the configuration names none. */
function announcedLeast({ config, plan }: EntryBody<'run.open'>): number {
  const { leastSurvivors } = (config['cohort'] ?? {}) as { readonly leastSurvivors?: unknown };
  return leastSurvivors === undefined ? plan.minSurvivors : Math.min(plan.minSurvivors, Number(leastSurvivors));
}

/** First two entries: who may take part, and what will run. */
function readOpening(
  entries: readonly LocatedEntry[],
  crypto: CryptoProvider,
): { genesis: EntryBody<'genesis'>; open: EntryBody<'run.open'>; coordinator: string; openedAt: AuditLocation } {
  const [first, second] = entries;
  if (first?.entry.type !== 'genesis')
    return failAudit('rules', first?.at ?? { file: 'log.jsonl' }, 'the first entry must be genesis');
  if (second?.entry.type !== 'run.open')
    return failAudit('rules', second?.at ?? first.at, 'the second entry must be run.open');
  const genesis = first.entry.body;
  const members = genesis.members.map(({ id, publicKey, organization }) => ({
    id: fromHex(id),
    publicKey: fromHex(publicKey),
    organization,
  }));
  const sorted = members.every(
    ({ id }, i) => i === 0 || compareBytes((members[i - 1] as { id: Uint8Array }).id, id) < 0,
  );
  if (!sorted) failAudit('rules', first.at, '"members" expected ascending distinct ids');
  const hash = toHex(rosterHash(crypto, { version: genesis.rosterVersion, entries: members, revoked: [] }));
  if (hash !== genesis.rosterHash) failAudit('rules', first.at, '"rosterHash" is not the hash of the members');
  const { plan } = second.entry.body;
  if (plan.minSurvivors <= plan.colluders)
    failAudit('rules', second.at, '"minSurvivors" expected more than the colluders');
  return { genesis, open: second.entry.body, coordinator: first.entry.actor, openedAt: second.at };
}

/**
 * Replays the log against the rules of a run, written down here a second time as checks.
 * @throws CoveyError AUDIT_FAILED (rules) at the first entry that breaks one.
 */
export function replayLog(entries: readonly LocatedEntry[], crypto: CryptoProvider): RunHistory {
  const { genesis, open, coordinator, openedAt } = readOpening(entries, crypto);
  const { federation, run, time: firstTime } = (entries[0] as LocatedEntry).entry;
  const replay = new Replay(genesis, open, run, crypto);
  if (toHex(replay.configHash) !== open.taskHash)
    failAudit('rules', openedAt, '"taskHash" is not the hash of the configuration');
  checkLayout(open, openedAt, crypto);
  entries.forEach(({ entry, at }, index) => {
    if (entry.federation !== federation || entry.run !== run)
      failAudit('rules', at, 'an entry of another federation or run');
    const own =
      entry.type === 'client.charge' || entry.type === 'client.leave'
        ? entry.actor !== coordinator
        : entry.type === 'incident' || entry.actor === coordinator;
    if (!own)
      failAudit(
        'rules',
        at,
        `${entry.type} was written by ${entry.actor === coordinator ? 'the coordinator' : 'a participant'}`,
      );
    switch (entry.type) {
      case 'genesis':
      case 'run.open':
        if (index !== (entry.type === 'genesis' ? 0 : 1)) failAudit('rules', at, `a second ${entry.type}`);
        break;
      case 'round.open':
        replay.openRound(at, entry.body);
        break;
      case 'charge.reserve':
        replay.charge(at, entry.body);
        break;
      case 'round.unmask':
        replay.unmask(at, entry.body);
        break;
      case 'round.release':
        replay.release(at, entry.body);
        break;
      case 'round.abort':
        replay.abort(at, entry.body);
        break;
      case 'client.charge':
        replay.clientCharge(at, entry.actor, entry.body);
        break;
      case 'client.leave':
        replay.leave(at, entry.actor, entry.body);
        break;
      case 'cluster.census':
        replay.census(at, entry.body);
        break;
      case 'cluster.probe':
        replay.probe(at, entry.body);
        break;
      case 'metrics.histogram':
        replay.histogram(at, entry.body);
        break;
      case 'cluster.assign':
        replay.assign(at, entry.body);
        break;
      case 'budget.block':
        replay.blocks.push({ at, body: entry.body });
        break;
      case 'model.export':
        replay.exports.push({ at, body: entry.body });
        break;
      case 'incident':
        replay.incidents.push({ at, body: entry.body });
        break;
    }
  });
  const { sessions, blocks, exports, incidents, leaves } = replay;
  const lastTime = (entries.at(-1) as LocatedEntry).entry.time;
  return {
    federation,
    run,
    genesis,
    open,
    openedAt,
    coordinator,
    sessions: [...sessions.values()],
    blocks,
    exports,
    incidents,
    leaves,
    firstTime,
    lastTime,
  };
}

/** Participants that said in a charge that a program of their own trains. */
export function trustedTrainers({ sessions }: Pick<RunHistory, 'sessions'>): ReadonlySet<string> {
  const own = sessions.flatMap(({ reserved, settled }) => [...reserved, ...settled]);
  return new Set(own.filter(([, { body }]) => body.assurance !== undefined).map(([id]) => id));
}
