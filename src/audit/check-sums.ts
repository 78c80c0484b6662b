import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { coordinateCount } from '../../protocol/params.ts';
import { bytesToWords, hasStrayBits, ringWordCount, unpackLanes } from '../../protocol/ring.ts';
import type { JsonObject } from '../privacy/event-json.ts';
import { type BundleFiles, requireFile } from './check-bundle.ts';
import { checkClips } from './clips.ts';
import { unknownShare } from './derive-events.ts';
import { checkEvolution } from './evolution.ts';
import { failAudit } from './failures.ts';
import type { RunHistory, SessionHistory } from './replay.ts';

/** Path of a released sum in a bundle: little-endian ring words. */
export function sumPath(sid: string): string {
  return `sums/${sid}.bin`;
}

/** Seats: every survivor put one 1 somewhere; there is no noise to hide anything else in. */
function checkSeats(session: SessionHistory, sum: Int32Array): void {
  const total = sum.reduce((count, value) => count + value, 0);
  if (sum.some((value) => value < 0) || total !== session.release?.body.survivors) {
    failAudit('sums', { file: sumPath(session.sid) }, 'a seat lottery must add up to one seat for each survivor');
  }
}

/** Chance that the noise of the counts lets a slot pass that is too small. @see threat-model.md, founding slots */
const GATE_FAILURE = 1e-6;

/** Counts in the log follow from the released sum, the open slots from the counts. */
function checkCounts(session: SessionHistory, sum: Int32Array, config: JsonObject): void {
  const { census, params } = session;
  if (census === undefined) return;
  const { minCluster = 0, participants = 0 } = (config['cohort'] ?? {}) as {
    minCluster?: number;
    participants?: number;
  };
  if (minCluster > 0) {
    const { noise, encoding, slots, maxLoss } = params;
    const variance = (participants * noise.shareVariance) / encoding.scale ** 2;
    const logs = Math.log(slots / GATE_FAILURE);
    // Skellam noise has the tails of Poisson counts: Bernstein's bound, in units of one count of the ring.
    const third = noise.mechanism === 'skellam' ? logs / encoding.scale / 3 : 0;
    const margin = third + Math.sqrt(third ** 2 + 2 * variance * logs);
    const large = [...sum.keys()].filter(
      (slot) => (sum[slot] as number) / encoding.scale - margin - maxLoss >= minCluster,
    );
    if (census.body.open.join() !== large.join())
      failAudit(
        'sums',
        census.at,
        `"open" expected slots ${large.join(', ') || 'none'}, got ${census.body.open.join(', ')}`,
      );
  }
  census.body.counts.forEach((count, slot) => {
    const derived = String((sum[slot] as number) / params.encoding.scale);
    if (count !== derived)
      failAudit('sums', census.at, `"counts[${slot}]" expected ${derived} from the released sum, got ${count}`);
  });
}

/** A histogram in the log follows from the released sum. */
function checkHistogram({ histogram, params }: SessionHistory, sum: Int32Array): void {
  if (histogram === undefined) return;
  const { body, at } = histogram;
  if (body.histogram.length !== sum.length)
    failAudit('sums', at, `"histogram" expected ${sum.length} bins, got ${body.histogram.length}`);
  body.histogram.forEach((count, bin) => {
    const derived = String((sum[bin] as number) / params.encoding.scale);
    if (count !== derived)
      failAudit('sums', at, `"histogram[${bin}]" expected ${derived} from the released sum, got ${count}`);
  });
}

/** Standard deviations below its mean at which a chi-square statistic is called impossible. */
const IMPOSSIBLE = 8;

/**
 * Independent noise of variance V on d coordinates gives the sum a squared norm of about d V or more: records only add
 * to it. Far less means that shares of the noise were left out.
 */
function checkNoiseEnergy(session: SessionHistory, sum: Int32Array): void {
  const { params, release } = session;
  const survivors = release?.body.survivors ?? 0;
  const honest = survivors - params.colluders;
  const energy = sum.reduce((squares, value) => squares + value * value, 0);
  const least = honest * unknownShare(params, survivors) * sum.length * (1 - IMPOSSIBLE * Math.sqrt(2 / sum.length));
  if (energy < least) {
    failAudit(
      'noise',
      { file: sumPath(session.sid) },
      `the released sum is too quiet for ${honest} honest shares of noise: squared norm ${energy.toExponential(3)}, expected at least ${least.toExponential(3)}`,
    );
  }
}

/**
 * Compares every released sum with the log: hash, length, range, and what the log says to follow from it.
 * @throws CoveyError AUDIT_FAILED (sums, noise). Returns the number of sums.
 */
export function checkSums(files: BundleFiles, history: RunHistory, crypto: CryptoProvider): number {
  let checked = 0;
  const counts = new Map<string, number>();
  const probes = new Map<string, Int32Array>();
  for (const session of history.sessions) {
    const { params, release } = session;
    if (release === undefined) continue;
    const file = sumPath(session.sid);
    const bytes = requireFile(files, file);
    if (toHex(crypto.sha256(bytes)) !== release.body.sumHash)
      failAudit('sums', release.at, `${file} is not the released sum`);
    const coordinates = coordinateCount(params);
    const { lanes } = params.ring;
    if (bytes.length !== 4 * ringWordCount(coordinates, lanes))
      failAudit('sums', { file }, `expected ${4 * ringWordCount(coordinates, lanes)} bytes, got ${bytes.length}`);
    const words = bytesToWords(bytes);
    if (hasStrayBits(words, coordinates, lanes)) failAudit('sums', { file }, 'bits outside of the ring are set');
    const sum = unpackLanes(words, coordinates, lanes);
    if (session.kind === 'seats') checkSeats(session, sum);
    if (session.kind === 'choice') checkCounts(session, sum, history.open.config);
    if (session.kind === 'metrics') checkHistogram(session, sum);
    if (session.kind === 'train') checkNoiseEnergy(session, sum);
    counts.set(session.sid, sum.at(-1) ?? 0);
    if (session.kind === 'choice' || session.kind === 'gaps') probes.set(session.sid, sum);
    checked += 1;
  }
  checkClips(history.open, history.sessions, ({ sid }) => counts.get(sid) ?? 0);
  checkEvolution(history.open, history.sessions, ({ sid }) => probes.get(sid) ?? new Int32Array(0));
  return checked;
}
