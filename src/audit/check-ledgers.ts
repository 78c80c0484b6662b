import { equalBytes, fromHex, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { LABELS } from '../../protocol/labels.ts';
import { eventFromJson } from '../privacy/event-json.ts';
import { canonicalJson } from './canonical-json.ts';
import type { BundleFiles } from './check-bundle.ts';
import { readEntry, requireEntrySignature, type SignedEntry } from './entries.ts';
import { type AuditLocation, failAudit, inClass } from './failures.ts';
import { totalLoss } from './privacy-loss.ts';
import { LOG_FILE, locate, splitLines } from './read-log.ts';
import { createRecomposer } from './recompose.ts';
import type { RunHistory } from './replay.ts';

/** What the comparison of ledgers and log found. */
export interface LedgerSummary {
  readonly compared: number;
  /** Members whose own ledger is not in the bundle. */
  readonly missing: readonly string[];
  /** Charges that participants hold against themselves although the log never heard of them. */
  readonly unlogged: number;
}

type OwnCharge = SignedEntry<'client.charge'>;

/** Path of a participant's own ledger in a bundle. */
export function ledgerPath(id: string): string {
  return `ledgers/${id}.jsonl`;
}

/** Reads a ledger: signed charges of one participant, without gaps, each with the head of the chain behind it. */
function readLedger(
  file: string,
  bytes: Uint8Array,
  member: { readonly id: string; readonly publicKey: string },
  run: string,
  crypto: CryptoProvider,
): { at: AuditLocation; bytes: Uint8Array; entry: OwnCharge | SignedEntry<'client.leave'> }[] {
  let head = hashParts(crypto, utf8(LABELS.ledgerEntry), utf8(run), fromHex(member.id));
  let previous = '';
  return splitLines(file, bytes).map((line, seq) => {
    const at = locate(file, line);
    const entry = inClass('ledger', at, () => readEntry(line.bytes));
    const isOwn = entry.type === 'client.charge' || entry.type === 'client.leave';
    if (!isOwn || entry.actor !== member.id || entry.run !== run)
      return failAudit('ledger', at, 'expected a charge of this participant in this run');
    inClass('ledger', at, () => requireEntrySignature(entry, fromHex(member.publicKey), crypto));
    if (entry.seq !== seq || entry.prevByActor !== previous)
      failAudit('ledger', at, 'the ledger is not one chain without gaps');
    previous = toHex(crypto.sha256(line.bytes));
    if (entry.type === 'client.leave') return { at, bytes: line.bytes, entry };
    const { sid, kind, events, paths, ledgerHead } = entry.body;
    const named = paths === undefined ? [] : [utf8(canonicalJson(paths))];
    const charged = [utf8(sid), utf8(kind), utf8(canonicalJson(events)), ...named];
    head = hashParts(crypto, utf8(LABELS.ledgerEntry), head, ...charged);
    if (toHex(head) !== ledgerHead) failAudit('ledger', at, '"ledgerHead" does not continue the chain');
    return { at, bytes: line.bytes, entry };
  });
}

/** The last charge of each session counts: a settlement replaces its reserve, everything else stays. */
function ownEpsilon(entries: readonly OwnCharge[], history: RunHistory): number {
  const charges = new Map<string, OwnCharge['body']>();
  for (const { body } of entries) charges.set(body.sid, body);
  const events = [...charges.values()].flatMap((body) =>
    body.events.map((json) => ({ event: eventFromJson(json), count: 1 })),
  );
  return createRecomposer(history.open.plan.relation).epsilon(events, Number(history.open.plan.delta));
}

/**
 * Compares each participant's own signed ledger with the log: the log holds its first lines byte for byte and in order,
 * and what a participant charged itself is no less than what the coordinator charged it.
 * @throws CoveyError AUDIT_FAILED (ledger)
 */
export function checkLedgers(
  files: BundleFiles,
  history: RunHistory,
  log: Uint8Array,
  crypto: CryptoProvider,
): LedgerSummary {
  const logged = new Map<string, { at: AuditLocation; bytes: Uint8Array }[]>();
  for (const line of splitLines(LOG_FILE, log)) {
    const entry = readEntry(line.bytes);
    if (entry.type !== 'client.charge' && entry.type !== 'client.leave') continue;
    const own = logged.get(entry.actor) ?? [];
    own.push({ at: locate(LOG_FILE, line), bytes: line.bytes });
    logged.set(entry.actor, own);
  }
  const served = totalLoss(history, 'server');
  const recomposer = createRecomposer(history.open.plan.relation);
  const missing: string[] = [];
  let compared = 0;
  let unlogged = 0;
  for (const member of history.genesis.members) {
    const file = ledgerPath(member.id);
    const bytes = files.get(file);
    if (bytes === undefined) {
      missing.push(member.organization);
      continue;
    }
    const ledger = readLedger(file, bytes, member, history.run, crypto);
    const own = logged.get(member.id) ?? [];
    own.forEach((line, i) => {
      const mine = ledger[i];
      if (mine === undefined) failAudit('ledger', line.at, `${file} ends before this charge`);
      if (!equalBytes(mine.bytes, line.bytes))
        failAudit('ledger', mine.at, `the log holds another charge in ${LOG_FILE} line ${line.at.line}`);
    });
    unlogged += ledger.slice(own.length).filter(({ entry }) => entry.type === 'client.charge').length;
    const charged = recomposer.epsilon(served.chargesOf(member.id), Number(history.open.plan.delta));
    const held = ownEpsilon(
      ledger.flatMap(({ entry }) => (entry.type === 'client.charge' ? [entry] : [])),
      history,
    );
    if (held < charged * (1 - 1e-9))
      failAudit(
        'ledger',
        { file },
        `the participant holds epsilon ${held} against itself, the coordinator charged it ${charged}`,
      );
    compared += 1;
  }
  return { compared, missing, unlogged };
}
