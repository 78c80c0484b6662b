import type { DpEvent } from '../privacy/events.ts';
import type { EntryBody, RunPlanClaim } from './bodies.ts';
import type { RunHistory } from './replay.ts';

/** Noise inside the organizations, as the log announces it. Units: `sensitivity` in integer units. */
export interface AnnouncedLocalNoise {
  readonly sensitivity: number;
  readonly dimension: number;
  /** Minibatches of a step: no algorithm asks for fewer gradients. */
  readonly batches: number;
}

interface LocalConfig {
  readonly privacy?: { readonly localNoise?: { readonly clippingNorm: number } };
  readonly training?: { readonly local?: { readonly batches?: number } | null };
  readonly model?: { readonly inputs: number; readonly hidden: readonly number[]; readonly classes: number };
  readonly encoding?: { readonly scale: number };
}

/** Null where noise is shared. */
export function announcedLocalNoise({ config }: EntryBody<'run.open'>): AnnouncedLocalNoise | null {
  const { encoding, model, privacy, training } = config as unknown as LocalConfig;
  if (privacy?.localNoise === undefined) return null;
  const widths = model === undefined ? [] : [model.inputs, ...model.hidden, model.classes];
  const dimension = widths.slice(1).reduce((sum, width, l) => sum + ((widths[l] ?? 0) + 1) * width, 0);
  return {
    sensitivity: Math.floor((encoding?.scale ?? 0) * privacy.localNoise.clippingNorm),
    dimension,
    batches: training?.local?.batches ?? 1,
  };
}

/** Gradients of a step as the first charge of a training step says; every other charge must say the same. */
export function chargedQueries({ sessions }: RunHistory): number {
  for (const { charge, kind, reserved, settled } of sessions) {
    if (kind !== 'train') continue;
    const events = charge?.body.events.server ?? [...reserved.values(), ...settled.values()][0]?.body.events;
    const event = events?.[0] as DpEvent | undefined;
    if (event !== undefined) return event.kind === 'selfComposed' ? event.count : 1;
  }
  return 0;
}

/** What one record pays for a training step: each gradient is a release to every viewer, under one organization's noise. */
export function localEvents(
  { dimension, sensitivity }: AnnouncedLocalNoise,
  queries: number,
  mechanism: string,
  plan: RunPlanClaim,
): readonly DpEvent[] {
  const variance = Number(plan.shareVariance);
  const moved = { sensitivity, dimension, symmetric: true };
  const gradient: DpEvent =
    mechanism === 'skellam'
      ? { kind: 'skellam', variance, ...moved }
      : { kind: 'discreteGaussian', shares: 1, shareVariance: variance, ...moved };
  const probability = Number(plan.samplingProbability);
  const event: DpEvent = probability < 1 ? { kind: 'poissonSampled', probability, event: gradient } : gradient;
  return [queries === 1 ? event : { kind: 'selfComposed', count: queries, event }];
}
