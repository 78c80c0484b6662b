/** Whose fault an error is; decides the WebSocket close code and who may retry. */
export type ErrorClass =
  | 'UsageError'
  | 'CodecError'
  | 'ProtocolError'
  | 'AuthError'
  | 'CryptoError'
  | 'PrivacyError'
  | 'RoundAborted'
  | 'DependencyError'
  | 'InternalError';

export interface ErrorDefinition {
  readonly class: ErrorClass;
  /** WebSocket close code a peer sees, or null where the error never travels. */
  readonly closeCode: number | null;
  readonly retryable: boolean;
  readonly meaning: string;
}

// Codes travel on the wire: a code is never renamed or reused.
const DEFINITIONS = {
  USAGE_RANGE: { class: 'UsageError', closeCode: null, retryable: false, meaning: 'an argument is out of its range' },
  USAGE_STATE: { class: 'UsageError', closeCode: null, retryable: false, meaning: 'called in a state that forbids it' },
  USAGE_CONFIG: { class: 'UsageError', closeCode: null, retryable: false, meaning: 'a configuration value is wrong' },
  USAGE_DIVERGED: {
    class: 'UsageError',
    closeCode: null,
    retryable: false,
    meaning: 'training left the range of finite numbers',
  },
  CODEC_TRUNCATED: { class: 'CodecError', closeCode: 1007, retryable: false, meaning: 'fewer bytes than declared' },
  CODEC_TYPE: {
    class: 'CodecError',
    closeCode: 1007,
    retryable: false,
    meaning: 'a value of a type that is not allowed',
  },
  CODEC_EXTRA_KEY: { class: 'CodecError', closeCode: 1007, retryable: false, meaning: 'an unknown or repeated key' },
  CODEC_TRAILING: {
    class: 'CodecError',
    closeCode: 1007,
    retryable: false,
    meaning: 'bytes after the end of a message',
  },
  CODEC_LIMIT: { class: 'CodecError', closeCode: 1009, retryable: false, meaning: 'larger or deeper than the limit' },
  PROTO_UNEXPECTED: {
    class: 'ProtocolError',
    closeCode: 4400,
    retryable: false,
    meaning: 'a message that this phase does not expect',
  },
  PROTO_ROUND: {
    class: 'ProtocolError',
    closeCode: 4400,
    retryable: false,
    meaning: 'a round, purpose or attempt that is not newer',
  },
  PROTO_VERSION: { class: 'ProtocolError', closeCode: 4400, retryable: false, meaning: 'no common protocol version' },
  PROTO_COHORT: {
    class: 'ProtocolError',
    closeCode: 4400,
    retryable: false,
    meaning: 'a member set that breaks the rules',
  },
  PROTO_EQUIVOCATION: {
    class: 'ProtocolError',
    closeCode: 4400,
    retryable: false,
    meaning: 'two different messages for one phase',
  },
  PROTO_DEADLINE: { class: 'ProtocolError', closeCode: 4408, retryable: true, meaning: 'a peer missed its deadline' },
  AUTH_SIGNATURE: { class: 'AuthError', closeCode: 4401, retryable: false, meaning: 'a signature does not verify' },
  AUTH_UNKNOWN: { class: 'AuthError', closeCode: 4401, retryable: false, meaning: 'a key that is not on the roster' },
  AUTH_REVOKED: { class: 'AuthError', closeCode: 4401, retryable: false, meaning: 'a key that was revoked' },
  AUTH_DUPLICATE: {
    class: 'AuthError',
    closeCode: 4409,
    retryable: false,
    meaning: 'a second connection of one participant',
  },
  CRYPTO_POINT: {
    class: 'CryptoError',
    closeCode: 4403,
    retryable: false,
    meaning: 'a public key that is not a valid point',
  },
  CRYPTO_TAG: {
    class: 'CryptoError',
    closeCode: 4403,
    retryable: false,
    meaning: 'a ciphertext that does not authenticate',
  },
  CRYPTO_SHARE: {
    class: 'CryptoError',
    closeCode: 4403,
    retryable: false,
    meaning: 'a share that does not open its commitment',
  },
  CRYPTO_COMMITMENT: {
    class: 'CryptoError',
    closeCode: 4403,
    retryable: false,
    meaning: 'a secret that does not open its commitment',
  },
  PRIVACY_BUDGET: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'the round would exceed the privacy budget',
  },
  PRIVACY_POLICY: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'the local policy refuses the session',
  },
  PRIVACY_COHORT_TOO_SMALL: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: true,
    meaning: 'too few members to hide among',
  },
  PRIVACY_UNSUPPORTED_EVENT: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'an event the accountant cannot bound',
  },
  PRIVACY_RING_WIDTH: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'the ring is too narrow for the sum',
  },
  PRIVACY_NOISE: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'less noise than the claim needs',
  },
  PRIVACY_LEDGER: {
    class: 'PrivacyError',
    closeCode: 4410,
    retryable: false,
    meaning: 'a ledger that is broken or behind',
  },
  ROUND_TIMEOUT: { class: 'RoundAborted', closeCode: 4420, retryable: true, meaning: 'a phase ran out of time' },
  ROUND_BELOW_THRESHOLD: {
    class: 'RoundAborted',
    closeCode: 4420,
    retryable: true,
    meaning: 'too few members are left to unmask',
  },
  ROUND_REVEAL: {
    class: 'RoundAborted',
    closeCode: 4420,
    retryable: true,
    meaning: 'a part of the graph seed was not revealed',
  },
  ROUND_COMPLAINT: {
    class: 'RoundAborted',
    closeCode: 4420,
    retryable: true,
    meaning: 'a member proved a fault of a pair',
  },
  DEP_TFJS_NATIVE: {
    class: 'DependencyError',
    closeCode: null,
    retryable: false,
    meaning: 'the native tensor library cannot be used',
  },
  DEP_STORE: {
    class: 'DependencyError',
    closeCode: null,
    retryable: false,
    meaning: 'no embedded database can be opened',
  },
  DEP_TRAINER_START: {
    class: 'DependencyError',
    closeCode: null,
    retryable: false,
    meaning: 'the training program cannot be started',
  },
  DEP_TRAINER_EXIT: {
    class: 'DependencyError',
    closeCode: null,
    retryable: true,
    meaning: 'the training program ended or reported a failure',
  },
  DEP_TRAINER_OUTPUT: {
    class: 'DependencyError',
    closeCode: null,
    retryable: false,
    meaning: 'the training program answered something else than agreed',
  },
  DEP_TRAINER_TIMEOUT: {
    class: 'DependencyError',
    closeCode: null,
    retryable: true,
    meaning: 'training did not end within its time limit',
  },
  AUDIT_FAILED: { class: 'ProtocolError', closeCode: null, retryable: false, meaning: 'an audit check failed' },
  INTERNAL_INVARIANT: {
    class: 'InternalError',
    closeCode: 1011,
    retryable: false,
    meaning: 'a fault of this program, please report it',
  },
} as const;

export type ErrorCode = keyof typeof DEFINITIONS;

/** Every error code of the project. */
export const ERROR_CODES: Readonly<Record<ErrorCode, ErrorDefinition>> = DEFINITIONS;

/** Public facts about an error: ids, lengths and counts only, never updates, keys or seeds. */
export type ErrorDetail = Readonly<Record<string, string | number | boolean | readonly string[] | readonly number[]>>;

/** The one error class of the project; `code` says what happened, `name` whose fault it is. */
export class CoveyError extends Error {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.detail = detail;
    this.name = ERROR_CODES[code].class;
  }

  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }

  get closeCode(): number | null {
    return ERROR_CODES[this.code].closeCode;
  }
}

/** True for errors of this project with the given code (any code if none is given). */
export function isCoveyError(error: unknown, code?: ErrorCode): error is CoveyError {
  return error instanceof CoveyError && (code === undefined || error.code === code);
}
