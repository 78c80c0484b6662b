import type { EntryBody } from './bodies.ts';
import { failAudit } from './failures.ts';
import type { SessionHistory } from './replay.ts';

/*
 * The clip of a run that adapts it, followed a second time: from the clip that was signed for one step and the released
 * count of that step to the clip of the next. @see Andrew et al. 2021; privacy F20
 */

/** What the configuration in the log says about an adaptive clip, null for a fixed one. */
export function announcedClip({ config }: EntryBody<'run.open'>): {
  readonly firstNorm: number;
  readonly firstScale: number;
  readonly maxNorm: number;
  readonly quantile: number;
  readonly learningRate: number;
} | null {
  const { training, encoding } = config as {
    training?: { clippingNorm?: unknown; adaptiveClip?: Readonly<Record<string, unknown>> };
    encoding?: { scale?: unknown };
  };
  const announced = training?.adaptiveClip;
  if (announced === undefined) return null;
  const firstNorm = Number(training?.clippingNorm);
  return {
    firstNorm,
    firstScale: Number(encoding?.scale),
    maxNorm: Number(announced['maxNorm'] ?? 65_536 * firstNorm),
    quantile: Number(announced['quantile']),
    learningRate: Number(announced['learningRate']),
  };
}

/** Clips are rounded to 2^-23 and may be lowered a little more for their product with the scale. */
const CLIP_ROUNDING = 1e-5;

/**
 * Checks that every training step was clipped as the released counts before it say. `countOf`: last coordinate of the
 * released sum of a session. @throws CoveyError AUDIT_FAILED (sums) at the step whose clip does not follow.
 */
export function checkClips(
  open: EntryBody<'run.open'>,
  sessions: readonly SessionHistory[],
  countOf: (session: SessionHistory) => number,
): void {
  const announced = announcedClip(open);
  if (announced === null) return;
  const { firstNorm, learningRate, maxNorm, quantile } = announced;
  const steps = new Map<number, { norm: number; below: number; members: number }>();
  for (const session of sessions) {
    if (session.kind !== 'train') continue;
    const { opened, params, release } = session;
    const { step } = opened.body;
    const before = steps.get(step - 1);
    if (step > 0 && before === undefined)
      failAudit('sums', opened.at, `step ${step} was opened before the count of the step before it was released`);
    const fraction = before === undefined ? quantile : before.below / before.members;
    const moved =
      (before?.norm ?? firstNorm) * Math.exp(learningRate * (quantile - Math.min(1, Math.max(0, fraction))));
    const expected = Math.min(maxNorm, Math.max(firstNorm / 65_536, moved));
    const { clippingNorm } = params.encoding;
    const off = step === 0 ? clippingNorm !== firstNorm : Math.abs(clippingNorm / expected - 1) > CLIP_ROUNDING;
    if (off || clippingNorm > maxNorm)
      failAudit('sums', opened.at, `"clippingNorm" expected ${expected} from the released counts, got ${clippingNorm}`);
    if (release === undefined) continue;
    const units = Number(params.layout.at(-1)?.segment.split('/')[1]);
    const { survivors } = release.body;
    const counted = steps.get(step);
    steps.set(step, {
      norm: clippingNorm,
      below: (counted?.below ?? 0) + countOf(session) / (2 * units) + survivors / 2,
      members: (counted?.members ?? 0) + survivors,
    });
  }
}
