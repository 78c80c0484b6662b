import { equalBytes, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import {
  type BundleReader,
  checkCheckpoint,
  checkManifest,
  checkNamedFiles,
  readBundle,
  requireFile,
} from './check-bundle.ts';
import { checkLedgers, type LedgerSummary } from './check-ledgers.ts';
import { checkNoise } from './check-noise.ts';
import { checkPrivacy, type RecomposedLoss } from './check-privacy.ts';
import { checkSums } from './check-sums.ts';
import { announcesFloatTerms, protectsPersons } from './derive-events.ts';
import { factsOf } from './facts.ts';
import { type AuditFailure, describeLocation, failAudit, failureOf, inClass } from './failures.ts';
import { LOG_FILE, readLog } from './read-log.ts';
import { type RunHistory, replayLog, trustedTrainers } from './replay.ts';
import { REPORT_FILE, renderReport } from './report.ts';
import { parseResults, RESULTS_FILE } from './results.ts';

export type { BundleReader } from './check-bundle.ts';

export interface VerifyOptions {
  /** Coordinator key that the reader got by another way; without it the bundle's own key is believed. */
  readonly pinnedCoordinatorKey?: Uint8Array;
}

/** Outcome of an audit, in three groups. `exitCode` is 0 or the one of the first failure's class. */
export interface AuditReport {
  readonly ok: boolean;
  readonly exitCode: number;
  readonly failure: AuditFailure | null;
  /** Follows from the bytes of the bundle. */
  readonly proved: readonly string[];
  /** Somebody signed it; nothing contradicts it. */
  readonly attested: readonly string[];
  /** Nobody can see it from outside. */
  readonly assumed: readonly string[];
}

/** Who owns how many records; for a run that protects persons, in other words. */
const ONE_RECORD =
  'the records are real, each person owns one record at one organization, and the clip was applied to every record';
const ONE_PERSON =
  'the records are real, each person is at one organization, all of its rows there carry its name, and the clip was applied to their sum';

const FLOAT_SUMS =
  'sums of records are float-bounded: doubles of the sites add and multiply as IEEE 754 says (exact below 2^53, else rounded to the nearest)';

/** What no log can show. Printed with every result. */
const LIMITS: readonly string[] = [
  'every participant drew its noise and its sample as published: a transcript cannot prove that',
  ONE_RECORD,
  'no more organizations collude with the coordinator than the run assumed',
  'the keys of the roster belong to the named organizations',
];

const plural = (count: number, thing: string): string => `${count} ${thing}${count === 1 ? '' : 's'}`;

function compareReport(rendered: Uint8Array, stored: Uint8Array): void {
  if (equalBytes(rendered, stored)) return;
  const at = rendered.findIndex((byte, i) => byte !== stored[i]);
  const byte = at < 0 ? rendered.length : at;
  const line = rendered.subarray(0, byte).reduce((count, value) => count + (value === 0x0a ? 1 : 0), 1);
  failAudit('report', { file: REPORT_FILE, line, byte }, 'the report is not the one that follows from log and results');
}

function attestations(history: RunHistory, ledgers: LedgerSummary, pinned: boolean): string[] {
  const key = toHexKey(history);
  return [
    pinned
      ? `the coordinator is the one with the pinned key ${key}`
      : `the coordinator's key is ${key}, as the bundle says: compare it with the one you were given`,
    'survivor sets, member counts, models, times and bytes sent, as the coordinator signed them',
    'accuracies and other results, as the run computed them',
    ...(ledgers.unlogged > 0
      ? [
          `${plural(ledgers.unlogged, 'charge')} that participants hold against themselves and the log never received (they count for the participant)`,
        ]
      : []),
  ];
}

function toHexKey(history: RunHistory): string {
  return history.genesis.coordinatorKey;
}

/** What the events of each part of the releases cost; the total composes those of all, each once. */
function pathLine({ view, paths }: RecomposedLoss): string {
  const parts = paths.map(({ path, epsilon }) => `${path} ${epsilon === 0 ? '0' : epsilon.toFixed(4)}`);
  return `epsilon by path, ${view} view, events of each part: ${parts.join(', ')}`;
}

function lossLine({ view, epsilon, secondEpsilon }: RecomposedLoss, delta: string): string {
  return `privacy loss, ${view} view: epsilon ${epsilon.toFixed(4)} at delta ${delta} for the participant with the largest one (second accountant ${secondEpsilon.toFixed(4)}); no claim is below it`;
}

/**
 * Verifies a bundle offline: files, signatures, tree, entries, rules, sums, noise, privacy loss, ledgers, report. It reads
 * nothing but the bundle and shares no code with the machines that ran. Stops at the first failure and names its place.
 * Not guaranteed: what is listed under `assumed`.
 * @see AUDIT_EXIT_CODES
 */
export async function verifyBundle(
  reader: BundleReader,
  crypto: CryptoProvider,
  options: VerifyOptions = {},
): Promise<AuditReport> {
  const proved: string[] = [];
  const attested: string[] = [];
  const assumed: string[] = [...LIMITS];
  try {
    const files = await readBundle(reader, crypto);
    proved.push(`${plural(files.size, 'file')} as the manifest names them, none missing, none more`);
    const signer = checkManifest(files, options.pinnedCoordinatorKey, crypto);
    proved.push(`manifest signed with coordinator key ${toHex(signer.publicKey)}`);
    const size = checkCheckpoint(files, signer, crypto);
    proved.push(`signed tree head over ${plural(size, 'log entry').replace(/entrys$/, 'entries')}`);
    const log = requireFile(files, LOG_FILE);
    const entries = readLog(log, crypto);
    proved.push('every log entry canonical, signed by its actor, in its actor’s unbroken order');
    const history = replayLog(entries, crypto);
    const { layout } = history.open;
    if (layout !== undefined) proved.push(`layout ${layout.slice(0, 12)} is that of the model of the configuration`);
    checkNamedFiles(files, history, crypto);
    const released = history.sessions.filter(({ release }) => release !== undefined);
    const fewest = Math.min(...released.map(({ release }) => release?.body.survivors ?? 0));
    proved.push(
      `${plural(released.length, 'release')}, each charged by every survivor and by the coordinator before unmasking${released.length > 0 ? `, never fewer than ${fewest} survivors` : ''}`,
    );
    const sums = checkSums(files, history, crypto);
    proved.push(`${plural(sums, 'released sum')} as logged; noise energy and counts follow from them`);
    const charges = checkNoise(history);
    proved.push(
      `${plural(charges, 'charge')} with the sensitivity and the honest noise that the signed parameters give`,
    );
    const resultBytes = requireFile(files, RESULTS_FILE);
    const results = inClass('epsilon', { file: RESULTS_FILE }, () => parseResults(resultBytes));
    for (const loss of checkPrivacy(history, results))
      proved.push(lossLine(loss, history.open.plan.delta), pathLine(loss));
    const ledgers = checkLedgers(files, history, log, crypto);
    proved.push(
      `${plural(ledgers.compared, 'participant ledger')} agree${ledgers.compared === 1 ? 's' : ''} with the log`,
    );
    if (protectsPersons(history.open.config)) assumed[assumed.indexOf(ONE_RECORD)] = ONE_PERSON;
    if (announcesFloatTerms(history.open.config)) assumed.push(FLOAT_SUMS);
    const trusted = trustedTrainers(history);
    if (trusted.size > 0)
      assumed.push(
        `${history.genesis.members
          .filter(({ id }) => trusted.has(id))
          .map(({ organization }) => organization)
          .join(
            ', ',
          )}: a program of the site trained, and each of its rows depends on one record alone (trusted trainer)`,
      );
    if (ledgers.missing.length > 0)
      assumed.push(
        `nothing was dropped from the end of what ${ledgers.missing.join(', ')} charged: their ledgers are not in the bundle`,
      );
    compareReport(utf8(renderReport(factsOf(history, results, log, crypto))), requireFile(files, REPORT_FILE));
    proved.push(`${REPORT_FILE} rendered again, byte for byte`);
    attested.push(...attestations(history, ledgers, options.pinnedCoordinatorKey !== undefined));
    return { ok: true, exitCode: 0, failure: null, proved, attested, assumed };
  } catch (error) {
    const failure = failureOf(error);
    if (failure === null) throw error;
    return { ok: false, exitCode: failure.exitCode, failure, proved, attested, assumed };
  }
}

/** Writes an audit for a terminal: the failure first, then what was proved, attested and assumed. */
export function formatAudit(report: AuditReport): string {
  const group = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  - ${line}`), ''];
  const { failure } = report;
  const head =
    failure === null
      ? ['VERIFIED: every check held.', '']
      : [
          `FAILED (${failure.class}, exit ${failure.exitCode}): ${failure.message}`,
          `  at ${describeLocation(failure)}`,
          '',
        ];
  return [
    ...head,
    ...group(failure === null ? 'Proved from the bytes' : 'Proved before the failure', report.proved),
    ...group('Attested by signatures', report.attested),
    ...group('Assumed, because no log can show it', report.assumed),
  ].join('\n');
}
