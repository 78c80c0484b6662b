import type { ErrorCode } from './errors.ts';

/** Number of coordinates packed in one 64-bit word: 2 of 32 bits, 3 of 21 bits or 4 of 16 bits. */
export type Lanes = 2 | 3 | 4;
export type Purpose = 'census' | 'train' | 'metrics';
/** Complete graph of at most 256 members, or a k-regular graph of more. @see SPEC section 5 */
export type Profile = 'strict' | 'sparse';
export type ClusterMode = 'hybrid' | 'hidden' | 'open';

/** One named run of ring coordinates in the summed vector. Units: `length` in coordinates, padding included. */
export interface Segment {
  readonly segment: string;
  readonly length: number;
}

/** Law of the noise that every member adds to its contribution. */
export type NoiseMechanism = 'discrete-gaussian' | 'skellam' | 'none';

/**
 * Everything that both ends of a session agree on, signed by the coordinator (P0). @see SPEC section 2
 * Units: `shareVariance` in squared integer units per coordinate and participant; `deadlineMs` per phase.
 */
export interface SessionParams {
  readonly protocol: 'covey/1';
  /** 16 bytes, lower-case hex. */
  readonly runId: string;
  /** u32; one number is spent once the first byte of an upload may have left. */
  readonly round: number;
  readonly purpose: Purpose;
  /** u8; counts retries before any upload. */
  readonly attempt: number;
  readonly groupId: string;
  readonly mode: ClusterMode;
  /** Number of slots in the vector (K), at least 1. */
  readonly slots: number;
  readonly layout: readonly Segment[];
  /** Hash over all models in play, 32 bytes. */
  readonly modelHash: Uint8Array;
  /** Hash of the task (run configuration), 32 bytes. */
  readonly taskHash: Uint8Array;
  readonly rosterHash: Uint8Array;
  readonly rosterVersion: number;
  readonly ring: { readonly lanes: Lanes; readonly bits: 32 | 21 | 16 };
  readonly encoding: {
    readonly clippingNorm: number;
    /** Integer units per 1.0 of the clipped float value. */
    readonly scale: number;
    /** 32 bytes, public. */
    readonly rotationSeed: Uint8Array;
    readonly rounding: 'toward-zero' | 'conditional' | 'none' | 'float-bounded';
  };
  readonly noise: {
    readonly mechanism: NoiseMechanism;
    readonly shareVariance: number;
    /**
     * Most members between U2 and U3 whose loss the noise is made for, with components that are taken off the sum again;
     * `shareVariance` is then what each of `minSurvivors` members carries. Absent: shares stay as they are.
     */
    readonly tolerance?: number | undefined;
  };
  readonly minSurvivors: number;
  readonly minOrgs: number;
  readonly colluders: number;
  readonly dropoutFraction: number;
  readonly maxLoss: number;
  readonly profile: Profile;
  readonly deadlineMs: number;
}

/** One enrolled node. `id` is SHA-256 of `publicKey`; both 32 bytes. */
export interface RosterEntry {
  readonly id: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly organization: string;
}

/** The signed list of who may take part; `entries` sorted bytewise by id, ids distinct. */
export interface Roster {
  readonly version: number;
  readonly entries: readonly RosterEntry[];
  readonly revoked: readonly Uint8Array[];
}

export type MessageType =
  | 'p0'
  | 'p1'
  | 'p1-all'
  | 'p1r'
  | 'p1r-all'
  | 'p2'
  | 'p2-all'
  | 'p3'
  | 'p4-ask'
  | 'p4'
  | 'p5-ask'
  | 'p5'
  | 'result'
  | 'complaint'
  | 'abort';

/**
 * One signed message of a session. `body` is signed as H(label of `type`, sid, body); `attachment` carries bytes that the
 * body binds by hash or that carry their own signatures (a ring vector, ciphertexts, other members' messages).
 */
export interface SessionMessage {
  readonly type: MessageType;
  readonly sid: Uint8Array;
  readonly body: Uint8Array;
  readonly signature: Uint8Array;
  readonly attachment: Uint8Array;
}

export type Phase = 'advertise' | 'reveal' | 'share-keys' | 'masked-input' | 'consistency' | 'unmask';

/** Write-ahead records of a participant; each is durable before the act it names. Never holds a secret. */
export type ParticipantRecord =
  | {
      readonly kind: 'entered';
      readonly runId: string;
      readonly sid: Uint8Array;
      readonly round: number;
      readonly purpose: Purpose;
      readonly attempt: number;
    }
  | {
      readonly kind: 'uploaded';
      readonly runId: string;
      readonly sid: Uint8Array;
      readonly round: number;
      readonly purpose: Purpose;
      readonly digest: Uint8Array;
    }
  | { readonly kind: 'agreed'; readonly runId: string; readonly sid: Uint8Array; readonly h3: Uint8Array }
  | { readonly kind: 'replied'; readonly runId: string; readonly sid: Uint8Array; readonly h3: Uint8Array };

/**
 * What a participant machine asks its driver to do, in this order, each started when the one before is done.
 * `authorize`, `contribute`, `charge` and `mask` are answered by an event of the participant machine.
 */
export type ParticipantEffect =
  | { readonly type: 'authorize'; readonly params: SessionParams; readonly sid: Uint8Array }
  | { readonly type: 'persist'; readonly record: ParticipantRecord }
  | { readonly type: 'send'; readonly message: SessionMessage }
  | {
      readonly type: 'contribute';
      readonly params: SessionParams;
      readonly sid: Uint8Array;
      readonly cohort: readonly Uint8Array[];
      /** Seeds of the removable parts of this member's noise, 1 to their number; none without a tolerance. */
      readonly components: readonly NoiseComponent[];
    }
  /** Write-ahead: reserve the worst accepted case before any byte of the upload leaves. */
  | { readonly type: 'charge'; readonly params: SessionParams; readonly sid: Uint8Array; readonly survivors: number }
  /** Settle the reserve to the certified survivors `u3` (after P5's certificate, before the reply leaves). */
  | {
      readonly type: 'settle';
      readonly params: SessionParams;
      readonly sid: Uint8Array;
      readonly h3: Uint8Array;
      readonly survivors: readonly Uint8Array[];
    }
  | { readonly type: 'mask'; readonly words: Uint32Array; readonly lanes: Lanes; readonly seeds: readonly MaskSeed[] }
  | {
      readonly type: 'done';
      readonly sid: Uint8Array;
      readonly h3: Uint8Array;
      readonly survivors: readonly Uint8Array[];
      readonly sumHash: Uint8Array;
    }
  /** `accused`: members whose fault it is; `evidence`: two signed coordinator messages that contradict each other. */
  | {
      readonly type: 'abort';
      readonly sid: Uint8Array;
      readonly code: ErrorCode;
      readonly reason: string;
      readonly accused: readonly Uint8Array[];
      readonly evidence: readonly SessionMessage[];
    };

/** One removable part of a member's noise, drawn from AES-256-CTR of `seed` (32 bytes); its number says its variance. */
export interface NoiseComponent {
  readonly number: number;
  readonly seed: Uint8Array;
}

/** One AES-256-CTR seed (32 bytes) and the sign with which its keystream enters. */
export interface MaskSeed {
  readonly seed: Uint8Array;
  readonly sign: 1 | -1;
}

export type ParticipantEvent =
  /** P0 arrived. `entropy`: 32 fresh bytes of the driver's CSPRNG that serve this session only. */
  | { readonly type: 'open'; readonly message: SessionMessage; readonly entropy: Uint8Array }
  /** `census`: U3 of the census that binds this session by `maxLoss`; null or absent where none does. */
  | { readonly type: 'authorized'; readonly census?: readonly Uint8Array[] | null }
  | { readonly type: 'refused'; readonly code: ErrorCode; readonly reason: string }
  | { readonly type: 'message'; readonly message: SessionMessage }
  /** Packed ring vector of the length that `layout` and `ring` demand. Consumed: wiped after masking. */
  | { readonly type: 'contribution'; readonly words: Uint32Array }
  | { readonly type: 'charged' }
  | { readonly type: 'masked'; readonly words: Uint32Array; readonly digest: Uint8Array }
  | { readonly type: 'deadline' }
  | { readonly type: 'resend' };

/** What the aggregator machine asks its driver to do, in order. `fold` and `unmask` are answered by events. */
export type AggregatorEffect =
  /** Durable before what follows is sent: U1, U2, and U3 together with the folded sum. */
  | { readonly type: 'persist'; readonly record: AggregatorRecord }
  | { readonly type: 'send'; readonly to: Uint8Array; readonly message: SessionMessage }
  /** Starts (or restarts) the deadline of a phase on the driver's monotonic clock. */
  | { readonly type: 'deadline'; readonly phase: Phase; readonly ms: number }
  | { readonly type: 'fold'; readonly id: Uint8Array; readonly words: Uint32Array; readonly lanes: Lanes }
  /**
   * Adds the seeds' keystreams (with sign) to the folded sum, then takes the components of the survivors' noise off.
   * `members`: |U2|, which their variances follow from.
   */
  | {
      readonly type: 'unmask';
      readonly lanes: Lanes;
      readonly seeds: readonly MaskSeed[];
      readonly members: number;
      readonly components: readonly NoiseComponent[];
    }
  /** A durable server charge must precede the P5 request. Answered by `charged`. */
  | {
      readonly type: 'charge';
      readonly params: SessionParams;
      readonly sid: Uint8Array;
      readonly h3: Uint8Array;
      readonly survivors: readonly Uint8Array[];
    }
  | { readonly type: 'done'; readonly outcome: SessionOutcome }
  | { readonly type: 'abort'; readonly outcome: SessionAbort };

export type AggregatorRecord =
  | { readonly kind: 'u1'; readonly sid: Uint8Array; readonly ids: readonly Uint8Array[] }
  | { readonly kind: 'u2'; readonly sid: Uint8Array; readonly ids: readonly Uint8Array[] }
  | { readonly kind: 'u3'; readonly sid: Uint8Array; readonly ids: readonly Uint8Array[] }
  | { readonly kind: 'reply'; readonly sid: Uint8Array; readonly id: Uint8Array };

export type AggregatorEvent =
  | {
      readonly type: 'open';
      readonly params: SessionParams;
      readonly attachment: Uint8Array;
      readonly invited: readonly Uint8Array[];
    }
  | { readonly type: 'message'; readonly from: Uint8Array; readonly message: SessionMessage }
  | { readonly type: 'folded'; readonly id: Uint8Array }
  | { readonly type: 'charged' }
  | { readonly type: 'unmasked'; readonly sum: Uint32Array }
  | { readonly type: 'deadline'; readonly phase: Phase }
  /** A participant is back: resend what it has not answered, the same bytes. */
  | { readonly type: 'reconnected'; readonly id: Uint8Array }
  /** Nobody else can come (all lost are known): close the phase without waiting for its deadline. */
  | { readonly type: 'lost'; readonly id: Uint8Array };

/** Why a member left a session, or a message of it that was refused. Signed messages that contradict each other are kept. */
export interface SessionFault {
  readonly id: Uint8Array;
  readonly phase: Phase;
  readonly code: ErrorCode;
  /** The member's own signed refusal, or a message of it that failed a check. */
  readonly reportedBy: 'member' | 'coordinator';
  readonly evidence: readonly SessionMessage[];
}

/** A completed session: the ring sum over `survivors` (U3). Shapes: `sum` has `ringWords` pairs of 32-bit words. */
export interface SessionOutcome {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly h3: Uint8Array;
  readonly sum: Uint32Array;
  readonly u1: readonly Uint8Array[];
  readonly u2: readonly Uint8Array[];
  readonly survivors: readonly Uint8Array[];
  /** Number of P4 signatures in the certificate. */
  readonly quorum: number;
  /** Everything needed to recompute the sum (SPEC section 6); the vectors are empty unless it is a census. */
  readonly transcript: Uint8Array;
  /** Members whose openings or second messages were wrong; the session went on without those. */
  readonly accused: readonly Uint8Array[];
  readonly faults: readonly SessionFault[];
}

export interface SessionAbort {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly phase: Phase;
  readonly code: ErrorCode;
  readonly reason: string;
  /** True once an upload may have left a participant: the round number is spent. */
  readonly uploadBegun: boolean;
  /** Members to leave out of the next attempt: the pair of a complaint, proven liars. */
  readonly excluded: readonly Uint8Array[];
  readonly faults: readonly SessionFault[];
}

/** Result of one pure step. `consumed`: secrets no longer needed, to be wiped by the driver. */
export interface Step<State, Effect> {
  readonly state: State;
  readonly effects: readonly Effect[];
  readonly consumed: readonly (Uint8Array | Uint32Array)[];
}
