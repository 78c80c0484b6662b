/** Every size limit of the wire and of a session. Mirrored in SPEC section 8. */
export const LIMITS = {
  /** Bytes of one WebSocket message before the hello is authenticated. */
  helloBytes: 4_096,
  /** Time until the hello must be authenticated. */
  helloMs: 5_000,
  /** Bytes of one fragment of a longer message. */
  fragmentBytes: 262_144,
  headerBytes: 65_536,
  /** Bytes of a whole message: a vector of 2^24 coordinates of 32 bits and what goes with it. */
  payloadBytes: 134_217_728,
  msgpackDepth: 8,
  msgpackItems: 4_096,
  keyBytes: 64,
  /** Members of a strict session. */
  cohort: 256,
  /** Members of a sparse session. */
  sparseCohort: 65_535,
  /** Neighbours of a member of a sparse session. */
  degree: 1_024,
  coordinates: 67_108_864,
  slots: 1_024,
  /** Lost members that removable noise may be made for: shares of that many seeds travel to every holder. */
  tolerance: 64,
  /** Attempts of one (round, purpose) before any upload. */
  attempts: 16,
  maxDeadlineMs: 3_600_000,
} as const;
