import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { type BundleChanges, type BundleWorld, createBundle, type EntrySpec } from './support/bundle.ts';

const LEAVE = { kind: 'train', step: 2, code: 'PRIVACY_BUDGET', reason: 'the server view would exceed epsilon 1' };

/** Lets the member that is in no later sum leave, `after` so many of its own entries. */
function leaving(after: number, body: Record<string, unknown> = LEAVE): NonNullable<BundleChanges['specs']> {
  return (specs: EntrySpec[], { members }: BundleWorld) => {
    const actor = members[3] as BundleWorld['members'][number];
    const own = specs.flatMap((spec, i) => (spec.actor === actor ? [i] : []));
    return specs.toSpliced((own[after - 1] ?? 0) + 1, 0, { actor, type: 'client.leave', body });
  };
}

const charges = createBundle().lines.filter((line) => line.includes('"client.charge"'));
const last = createBundle().members[3]?.id ?? '';
const all = charges.filter((line) => line.includes(`"actor":"${last}"`)).length;
const audit = async (changes: BundleChanges) => verifyBundle(createBundle(changes).reader, nodeCrypto);

describe('a log of a run that a member left', () => {
  it('holds, in the ledger of the member too, and the report says who left and why', async () => {
    const bundle = createBundle({ specs: leaving(all) });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    const page = new TextDecoder().decode(bundle.files.get('report.html'));
    expect(page).toContain('org');
    expect(page).toContain('left before training step 3: the server view would exceed epsilon 1 (PRIVACY_BUDGET)');
  });

  const broken: readonly (readonly [string, string, RegExp, BundleChanges])[] = [
    ['a charge after it', 'rules', /after it had left/, { specs: leaving(all - 2) }],
    ['a survivor who had left', 'rules', /^survivor .* had left the run/, { specs: leaving(all - 1) }],
    [
      'a second one',
      'rules',
      /left twice/,
      { specs: (specs, world) => leaving(all + 1)(leaving(all)(specs, world), world) },
    ],
    ['no reason', 'entries', /"client\.leave\.reason"/, { specs: leaving(all, { ...LEAVE, reason: 7 }) }],
    [
      'a ledger that forgot it',
      'ledger',
      /ends before this charge/,
      { specs: leaving(all), ledgers: (ledgers) => void ledgers.get(last)?.pop() },
    ],
  ];
  it.each(broken)('is refused with %s', async (_, failure, message, changes) => {
    if (failure === 'entries') {
      expect(() => createBundle(changes)).toThrow(message);
      return;
    }
    const report = await audit(changes);
    expect(report.failure?.class).toBe(failure);
    expect(report.failure?.message).toMatch(message);
  });
});
