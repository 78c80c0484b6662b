import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { Budget } from './accountant.ts';
import {
  type ChargeStatus,
  type Charges,
  chargeStatus,
  chargesWouldExceed,
  createCharges,
  pathCharges,
  reserveCharge,
  restoreCharge,
  settleCharge,
  totalCharges,
  type ViewEvents,
} from './charges.ts';
import { createFilter, type Filter } from './filter.ts';
import {
  CHAIN_START,
  decodeLine,
  encodeLine,
  hashLine,
  type LedgerEntry,
  type LedgerTerms,
  type SurvivorEvidence,
} from './ledger-entry.ts';
import { PERSONAL_PATH } from './paths.ts';
import type { EpsilonReport, View } from './views.ts';

type Hasher = Pick<CryptoProvider, 'sha256'>;

/**
 * A participant's own record of what it paid: an append-only chain of lines, each with the hash of the one before.
 *
 * Pure: every step returns the new ledger and the line that says so. The caller stores the line durably **before** it
 * acts on the step (uploads after a reserve, replies after a settle); after a crash `openLedger` finds what was
 * stored, and a reserve without a settle stays charged at its worst case.
 * Not guaranteed: that nobody removed lines from the end; compare `size` and `head` with a copy held elsewhere.
 */
export interface Ledger {
  readonly terms: LedgerTerms;
  readonly charges: Charges;
  /** Number of lines. */
  readonly size: number;
  /** Hash of the last line, hexadecimal. */
  readonly head: string;
  readonly thresholds: ReadonlyMap<string, number>;
}

export interface LedgerStep {
  readonly ledger: Ledger;
  /** To be stored before anything else happens; without line break. */
  readonly line: string;
}

/**
 * Checks that h3 is the hash of this session with these survivors, and returns the roster members whose signatures
 * over it verify; null if h3 is not that hash.
 */
export type EvidenceVerifier = (sid: string, evidence: SurvivorEvidence) => readonly string[] | null;

function broken(message: string, detail: Record<string, string | number> = {}): CoveyError {
  return new CoveyError('PRIVACY_LEDGER', message, detail);
}

/** The gate of a ledger: its filter, or its bare budget where an earlier version declared none. */
export function gateOf(terms: Omit<LedgerTerms, 'participant'>): Filter | Budget {
  const { budget, gate, relation } = terms;
  return gate === undefined ? budget : createFilter({ budget, relation, gate });
}

function checkTerms(terms: LedgerTerms): void {
  const { budget, budgetView, views } = terms;
  if (!(budget.epsilon > 0 && budget.epsilon < Number.POSITIVE_INFINITY && budget.delta > 0 && budget.delta < 1)) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"budget" expected epsilon > 0 and delta in (0, 1), got ${budget.epsilon} and ${budget.delta}`,
    );
  }
  if (!views.includes(budgetView) || new Set(views).size !== views.length) {
    throw new CoveyError('USAGE_RANGE', '"views" expected distinct views, the one of the budget among them');
  }
  // An order that leaves no room is refused here, not at the first charge.
  gateOf(terms);
}

/** A proof of absence: enough valid signatures of survivors, over survivors without the payer. @see privacy section 1 */
function checkEvidence(ledger: Ledger, sid: string, evidence: SurvivorEvidence, verify: EvidenceVerifier): void {
  const { participant } = ledger.terms;
  const survivors = new Set(evidence.survivors);
  if (survivors.has(participant)) throw broken('"survivors" expected a set without the payer', { sid });
  const valid = verify(sid, evidence);
  if (valid === null) throw broken('"h3" expected the hash of the session and its survivors', { sid });
  const signers = new Set(valid.filter((id) => survivors.has(id)));
  const threshold = ledger.thresholds.get(sid);
  if (threshold === undefined || signers.size < Math.max(1, threshold)) {
    throw broken(
      `"signatures" expected ${threshold ?? 'a reserve and its'} valid ones of survivors, got ${signers.size}`,
      { sid },
    );
  }
}

/** Applies an entry to what is charged; budget is not checked here: what was promised stays promised. */
function applyEntry(ledger: Ledger, entry: LedgerEntry, verify: EvidenceVerifier | undefined): Ledger {
  switch (entry.kind) {
    case 'open':
      throw broken('"kind" expected one open line, the first');
    case 'reserve':
      return {
        ...ledger,
        charges: reserveCharge(ledger.charges, entry.sid, entry.events, entry.paths),
        thresholds: new Map(ledger.thresholds).set(entry.sid, entry.threshold),
      };
    case 'settle':
      return { ...ledger, charges: settleCharge(ledger.charges, entry.sid, entry.events) };
    case 'restore':
      if (!verify)
        throw broken('"verify" expected a verifier of signatures: the ledger has a restored charge', {
          sid: entry.sid,
        });
      checkEvidence(ledger, entry.sid, entry.evidence, verify);
      return { ...ledger, charges: restoreCharge(ledger.charges, entry.sid) };
  }
}

function append(crypto: Hasher, ledger: Ledger, entry: LedgerEntry, verify?: EvidenceVerifier): LedgerStep {
  const line = encodeLine(entry, ledger.size, ledger.head);
  // A line that this version cannot read back must not be stored.
  decodeLine(line);
  const next = applyEntry(ledger, entry, verify);
  return { ledger: { ...next, size: ledger.size + 1, head: hashLine(crypto, line) }, line };
}

/** A new ledger, with its first line. @throws CoveyError USAGE_RANGE, PRIVACY_LEDGER for malformed terms. */
export function createLedger(crypto: Hasher, terms: LedgerTerms): LedgerStep {
  checkTerms(terms);
  const line = encodeLine({ kind: 'open', terms }, 0, CHAIN_START);
  decodeLine(line);
  const charges = createCharges(terms.views, terms.relation);
  return { ledger: { terms, charges, size: 1, head: hashLine(crypto, line), thresholds: new Map() }, line };
}

/**
 * Reads a stored ledger: every line, the chain of hashes, and every rule that held when it was written (one reserve a
 * session, no settle above its reserve, no restore without proof).
 * @throws CoveyError PRIVACY_LEDGER, naming the line (from 1).
 */
export function openLedger(crypto: Hasher, lines: readonly string[], verify?: EvidenceVerifier): Ledger {
  let ledger: Ledger | null = null;
  let previous = CHAIN_START;
  for (const [i, line] of lines.entries()) {
    try {
      const read = decodeLine(line);
      if (read.sequence !== i) throw broken(`"sequence" expected ${i}, got ${read.sequence}`);
      if (read.previous !== previous) throw broken('"previous" expected the hash of the line before');
      previous = hashLine(crypto, line);
      if (ledger) ledger = { ...applyEntry(ledger, read.entry, verify), size: i + 1, head: previous };
      else if (read.entry.kind === 'open') ledger = createLedger(crypto, read.entry.terms).ledger;
      else throw broken(`"kind" expected open in the first line, got ${read.entry.kind}`);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CoveyError('PRIVACY_LEDGER', `ledger line ${i + 1}: ${reason}`, { line: i + 1 }, { cause });
    }
  }
  if (!ledger) throw broken('"lines" expected at least the opening line');
  return ledger;
}

/**
 * Reserves the worst case of a session that the payer accepts, before it uploads anything.
 * @throws CoveyError PRIVACY_BUDGET if settled, reserved and new charges together exceed the budget: nothing is
 * reserved then; PRIVACY_LEDGER if the session was charged before; PRIVACY_UNSUPPORTED_EVENT
 */
export function reserve(
  crypto: Hasher,
  ledger: Ledger,
  charge: Omit<Extract<LedgerEntry, { kind: 'reserve' }>, 'kind'>,
): LedgerStep {
  const { budget, budgetView } = ledger.terms;
  const gate = gateOf(ledger.terms);
  const step = append(crypto, ledger, { ...charge, kind: 'reserve' });
  if (chargesWouldExceed(ledger.charges, budgetView, gate, charge.events[budgetView] ?? [])) {
    throw new CoveyError(
      'PRIVACY_BUDGET',
      `the ${budgetView} view would exceed epsilon ${budget.epsilon} at delta ${budget.delta}`,
      {
        sid: charge.sid,
        round: charge.round,
        epsilon: budget.epsilon,
        delta: budget.delta,
      },
    );
  }
  return step;
}

/**
 * Replaces the reserve by the realised cost, with the signed survivors known and before the payer replies.
 * @throws CoveyError PRIVACY_LEDGER if nothing is reserved for the session or the cost is above its reserve.
 */
export function settle(
  crypto: Hasher,
  ledger: Ledger,
  charge: Omit<Extract<LedgerEntry, { kind: 'settle' }>, 'kind'>,
): LedgerStep {
  return append(crypto, ledger, { ...charge, kind: 'settle' });
}

/**
 * Takes a reserve back: at least t survivors signed a set of survivors in which the payer is not.
 * @throws CoveyError PRIVACY_LEDGER if the proof does not hold or nothing is reserved; an abort alone refunds nothing.
 */
export function restore(
  crypto: Hasher,
  ledger: Ledger,
  sid: string,
  evidence: SurvivorEvidence,
  verify: EvidenceVerifier,
): LedgerStep {
  return append(crypto, ledger, { kind: 'restore', sid, evidence }, verify);
}

/** Where the charge of a session stands. */
export function statusOf(ledger: Ledger, sid: string): ChargeStatus {
  return chargeStatus(ledger.charges, sid);
}

/** Epsilon of everything settled and reserved, with what it means. */
export function reportLedger(ledger: Ledger, view: View = ledger.terms.budgetView): EpsilonReport {
  const { budget, unit, relation, colluders, accountant, sums } = ledger.terms;
  const epsilon = totalCharges(ledger.charges, view).epsilon(budget.delta);
  return { epsilon, delta: budget.delta, unit, relation, view, colluders, accountant, ...(sums && { sums }) };
}

/** Epsilon of one path of the releases. */
export interface PathEpsilon {
  /** A path, `unnamed` for charges of old ledgers, or `personal`. */
  readonly path: string;
  readonly epsilon: number;
}

/**
 * Epsilon of every path that was charged, and zero for the personal part, which is in no release. Each number is what the events
 * of its path cost, at the full delta, given everything else. Parts follow from each other, so that what somebody learns who
 * reads one alone is bounded by the total of `reportLedger`, which is never the sum of these.
 */
export function reportPaths(ledger: Ledger, view: View = ledger.terms.budgetView): PathEpsilon[] {
  const { delta } = ledger.terms.budget;
  const charged = [...pathCharges(ledger.charges, view)].map(([path, spent]) => ({
    path,
    epsilon: spent.epsilon(delta),
  }));
  return [...charged, { path: PERSONAL_PATH, epsilon: 0 }];
}

/** True if a session with these events would be refused. */
export function wouldExceed(ledger: Ledger, events: ViewEvents): boolean {
  const { budgetView } = ledger.terms;
  return chargesWouldExceed(ledger.charges, budgetView, gateOf(ledger.terms), events[budgetView] ?? []);
}
