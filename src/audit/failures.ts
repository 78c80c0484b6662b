import { CoveyError, isCoveyError } from '../../protocol/errors.ts';

/** Classes of failure in the order in which they are looked for, each with the exit code of `covey audit verify`. */
const EXIT_CODES = {
  /** A file is missing, unexpected or not the one that the manifest names. */
  files: 10,
  /** The manifest is not signed by the coordinator (or not by the pinned key). */
  manifest: 11,
  /** The signed tree head is not the one over the log. */
  checkpoint: 12,
  /** A log entry is not canonical or not of its kind. */
  entry: 13,
  /** A log entry is not signed by its actor. */
  signature: 14,
  /** Entries of one actor are missing, repeated or out of order. */
  chain: 15,
  /** The run broke a rule: charge before unmask, fewest survivors, membership, one release, spent rounds. */
  rules: 16,
  /** A released sum is not the one that the log names. */
  sums: 17,
  /** A charge says more noise, or less sensitivity, than the session had. */
  noise: 18,
  /** A claimed epsilon is below the recomputed one, or the budget was exceeded. */
  epsilon: 19,
  /** A participant's own ledger says something else than the log. */
  ledger: 20,
  /** The report is not the one that follows from log and results. */
  report: 21,
} as const;

export type AuditFailureClass = keyof typeof EXIT_CODES;

/** Exit code of each class of failure; 0 means that every check held. */
export const AUDIT_EXIT_CODES: Readonly<Record<AuditFailureClass, number>> = EXIT_CODES;

/** Where a failure was found. Units: `line` counts from 1; `byte` and `endByte` are offsets in the file. */
export interface AuditLocation {
  readonly file: string;
  readonly line?: number;
  readonly byte?: number;
  readonly endByte?: number;
}

export interface AuditFailure extends AuditLocation {
  readonly class: AuditFailureClass;
  readonly exitCode: number;
  readonly message: string;
}

/** Stops the audit. @throws CoveyError AUDIT_FAILED always. */
export function failAudit(kind: AuditFailureClass, where: AuditLocation, message: string): never {
  throw new CoveyError('AUDIT_FAILED', message, { ...where, class: kind });
}

/** Runs a check and turns every other error of the project into a failure of this class and place. */
export function inClass<T>(kind: AuditFailureClass, where: AuditLocation, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!isCoveyError(error) || error.code === 'AUDIT_FAILED') throw error;
    return failAudit(kind, where, error.message);
  }
}

/** Reads a failure back from the error that carries it, or null for any other error. */
export function failureOf(error: unknown): AuditFailure | null {
  if (!isCoveyError(error, 'AUDIT_FAILED')) return null;
  const { class: kind, file, line, byte, endByte } = error.detail;
  const failureClass = kind as AuditFailureClass;
  return {
    class: failureClass,
    exitCode: AUDIT_EXIT_CODES[failureClass],
    message: error.message,
    file: String(file),
    ...(typeof line === 'number' ? { line } : {}),
    ...(typeof byte === 'number' ? { byte } : {}),
    ...(typeof endByte === 'number' ? { endByte } : {}),
  };
}

/** One line that says where: `log.jsonl line 12, bytes 5321-5890`. */
export function describeLocation({ file, line, byte, endByte }: AuditLocation): string {
  const lineText = line === undefined ? '' : ` line ${line}`;
  const byteText = byte === undefined ? '' : endByte === undefined ? `, byte ${byte}` : `, bytes ${byte}-${endByte}`;
  return `${file}${lineText}${byteText}`;
}
