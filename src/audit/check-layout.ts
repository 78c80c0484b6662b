import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { type DenseShape, denseManifest } from '../learning/manifest.ts';
import { layoutOf } from '../learning/trainer.ts';
import type { EntryBody } from './bodies.ts';
import { type AuditLocation, failAudit } from './failures.ts';

/**
 * Checks that the layout that a run was opened with is that of the model of its configuration. Runs of earlier versions
 * name none. @throws CoveyError AUDIT_FAILED (rules)
 */
export function checkLayout(
  { config, layout }: EntryBody<'run.open'>,
  at: AuditLocation,
  crypto: CryptoProvider,
): void {
  if (layout === undefined) return;
  let expected: string | undefined;
  try {
    expected = layoutOf(crypto, denseManifest(config['model'] as unknown as DenseShape));
  } catch {
    // Anything may stand there: the log's signature says no more than who wrote it.
    failAudit('rules', at, '"config.model" expected a model that can be laid out');
  }
  if (layout !== expected) failAudit('rules', at, '"layout" is not the hash of the tensors of the model');
}
