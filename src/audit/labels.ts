import type { EntryBody } from './bodies.ts';

/** What the configuration in the log says about summed label counts; null if a run has none or reads a public prior. */
export function announcedLabels({
  config,
}: EntryBody<'run.open'>): { readonly classes: number; readonly noiseStddev: number } | null {
  const { labels } = (config['algorithm'] ?? {}) as { readonly labels?: Readonly<Record<string, unknown>> };
  const { classes } = (config['model'] ?? {}) as { readonly classes?: unknown };
  const { noiseStddev } = labels ?? {};
  return noiseStddev === undefined ? null : { classes: Number(classes), noiseStddev: Number(noiseStddev) };
}
