import { fromUtf8 } from '../../protocol/bytes.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { boolean, type Check, listOf, mapOf, record, text } from './checks.ts';

export const RESULTS_FILE = 'results.json';

/** Epsilon at a delta. */
export interface EpsilonClaim {
  readonly epsilon: number;
  readonly delta: number;
}

/** One way to train, as a row of the comparison. `simulated`: computed beside the run, released by nobody. */
export interface ResultRow {
  readonly name: string;
  /** Share of correct answers, 0 to 1, mean over organizations and of the worst one. */
  readonly mean: number;
  readonly worst: number;
  readonly epsilonServer: number | null;
  readonly epsilonRelease: number | null;
  readonly bytesUp: number | null;
  readonly simulated: boolean;
}

/** What the run says about itself; the audit recomputes the claims and attests the rest. */
export interface RunResults {
  readonly claims: {
    readonly server: EpsilonClaim;
    readonly release: EpsilonClaim;
    /** By hex id. */
    readonly perParticipant: Readonly<Record<string, { readonly server: number; readonly release: number }>>;
  };
  readonly table: readonly ResultRow[];
  readonly accuracyOverRounds: readonly { readonly round: number; readonly mean: number; readonly worst: number }[];
  readonly lost: readonly { readonly organization: string; readonly round: number; readonly phase: string }[];
  readonly clusters: readonly { readonly slot: number; readonly noisyCount: number; readonly line: string }[];
  readonly note: string;
}

/** A finite number, as JSON number or as decimal string. */
const number: Check<number> = (value, path) => {
  const read = typeof value === 'string' && /^-?\d[\d.eE+-]*$/.test(value) ? Number(value) : value;
  if (typeof read !== 'number' || !Number.isFinite(read))
    throw new CoveyError('CODEC_TYPE', `"${path}" expected a number`, { field: path });
  return read;
};
const optionalNumber: Check<number | null> = (value, path) => (value === null ? null : number(value, path));
const claim: Check<EpsilonClaim> = record({ epsilon: number, delta: number });

const results: Check<RunResults> = record({
  claims: record({
    server: claim,
    release: claim,
    perParticipant: mapOf(/^[0-9a-f]{64}$/, record({ server: number, release: number })),
  }),
  table: listOf(
    record({
      name: text(100),
      mean: number,
      worst: number,
      epsilonServer: optionalNumber,
      epsilonRelease: optionalNumber,
      bytesUp: optionalNumber,
      simulated: boolean,
    }),
    50,
  ),
  accuracyOverRounds: listOf(record({ round: number, mean: number, worst: number }), 100_000),
  lost: listOf(record({ organization: text(200), round: number, phase: text(64) }), 10_000),
  clusters: listOf(record({ slot: number, noisyCount: number, line: text(500) }), 1_024),
  note: text(4_000),
});

/** Reads `results.json`. @throws CoveyError CODEC_* naming the field. */
export function parseResults(bytes: Uint8Array): RunResults {
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(bytes));
  } catch (error) {
    throw new CoveyError('CODEC_TYPE', '"results" expected JSON', {}, { cause: error });
  }
  return results(value, 'results');
}
