import { coordinateCount } from '../../protocol/params.ts';
import type { EntryBody } from './bodies.ts';
import { announcesFloatTerms } from './derive-events.ts';
import { type AuditLocation, failAudit } from './failures.ts';
import type { SessionHistory } from './replay.ts';

/** Most records of a sum, clip times scale, coordinates, and fewest bits of a record that the bound on floats is proved for. */
const MOST_RECORDS = 2 ** 20;
const MOST_SCALED = 2 ** 26;
const MOST_COORDINATES = 2 ** 26;
const FEWEST_BITS = 24n;

/**
 * How vectors of training steps became integers decides what a unit is charged: it must be what the run announced, and sums
 * that are rounded once must be within the bound that their charge rests on. For steps whose noise is shares in the sum.
 * @throws CoveyError AUDIT_FAILED (noise). @see privacy F13
 */
export function checkRounding(
  { params }: Pick<SessionHistory, 'params'>,
  { config, plan }: Pick<EntryBody<'run.open'>, 'config' | 'plan'>,
  at: AuditLocation,
): void {
  const isFloat = announcesFloatTerms(config);
  const { clippingNorm, rounding, scale } = params.encoding;
  const expected = isFloat ? 'float-bounded' : plan.unit === 'participant' ? 'conditional' : 'toward-zero';
  if (rounding !== expected) failAudit('noise', at, `"rounding" expected ${expected} of the run, got ${rounding}`);
  if (!isFloat) return;
  if (plan.unit !== 'record')
    failAudit('noise', at, `"terms" expected integer at unit ${plan.unit}, got float-bounded`);
  const { maxRecordsPerStep: records } = (config['training'] ?? {}) as { readonly maxRecordsPerStep?: unknown };
  if (!(Number.isInteger(records) && Number(records) >= 1 && Number(records) <= MOST_RECORDS))
    failAudit('noise', at, `"maxRecordsPerStep" expected 1 to 2^20 with float-bounded terms, got ${records ?? 'none'}`);
  const scaled = scale * clippingNorm;
  const coordinates = coordinateCount(params);
  if (!(scaled >= 1 && scaled <= MOST_SCALED && coordinates <= MOST_COORDINATES))
    failAudit('noise', at, `"scale" expected 1 to 2^26 over the clip, got ${scaled} over ${coordinates} coordinates`);
  // Sums of so many records, and those inside their rotation, stay below 2^53 where their norms are at most 2^24.
  const longest = BigInt(Math.max(...params.layout.map(({ length }) => length)));
  if ((BigInt(Number(records)) ** 2n * longest) << (2n * FEWEST_BITS) > 1n << 106n)
    failAudit(
      'noise',
      at,
      `"maxRecordsPerStep" expected sums that are exact in doubles, got ${records} over ${longest}`,
    );
}
