import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromBase64, fromUtf8, toBase64, toHex } from '../protocol/bytes.ts';
import { decodeParams, encodeParams, sessionId } from '../protocol/params.ts';
import type { SessionParams } from '../protocol/session.ts';
import type { AUDIT_EXIT_CODES } from '../src/audit/failures.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { createBundle, type EntrySpec, renameSums } from './support/bundle.ts';

type Change = (specs: EntrySpec[]) => EntrySpec[];
const audit = (specs?: Change) =>
  verifyBundle(
    createBundle({
      metrics: true,
      ...(specs === undefined ? {} : { specs }),
      files: renameSums,
    }).reader,
    nodeCrypto,
  );

const isOf = (spec: EntrySpec, type: string): boolean => spec.type === type;
const metricsAt = (specs: readonly EntrySpec[]): number =>
  specs.findIndex((spec) => isOf(spec, 'round.open') && spec.body['kind'] === 'metrics');

/** Other parameters of the first metrics session, under their own session number, with charges to match. */
const reparametrized =
  (change: (params: SessionParams) => Partial<SessionParams>, rewrite: (events: string) => string): Change =>
  (specs) => {
    const opened = specs[metricsAt(specs)] as EntrySpec;
    const params = decodeParams(fromBase64(opened.body['params'] as string));
    const changed = { ...params, ...change(params) };
    const sid = toHex(sessionId(nodeCrypto, changed));
    return specs.flatMap((spec) => {
      if (spec.body['sid'] !== opened.body['sid']) return [spec];
      // What the sum was said to mean is another check's matter.
      if (isOf(spec, 'metrics.histogram')) return [];
      const events = spec.body['events'];
      return {
        ...spec,
        body: {
          ...spec.body,
          sid,
          ...(spec === opened ? { params: toBase64(encodeParams(changed)), purpose: changed.purpose } : {}),
          ...(events === undefined ? {} : { events: JSON.parse(rewrite(JSON.stringify(events))) }),
        },
      };
    });
  };

const editHistogram =
  (change: (body: Record<string, unknown>) => Record<string, unknown>): Change =>
  (specs) => {
    const at = specs.findIndex((spec) => isOf(spec, 'metrics.histogram'));
    return specs.map((spec, i) => (i === at ? { ...spec, body: change(spec.body) } : spec));
  };

describe('a bundle with protected accuracies', () => {
  it('verifies, charges them and shows them in the report', async () => {
    const bundle = createBundle({ metrics: true });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    expect(report.proved.join()).toMatch(/8 releases/);
    const page = fromUtf8(bundle.files.get('report.html') as Uint8Array);
    expect(page).toContain('Protected accuracy');
    expect(page).toContain('Worst tenth');
    expect(fromUtf8(createBundle().files.get('report.html') as Uint8Array)).not.toContain('Protected accuracy');
  });

  const half = (params: SessionParams): Partial<SessionParams> => ({
    noise: { ...params.noise, shareVariance: params.noise.shareVariance / 2 },
  });
  const FORGERIES: readonly [string, keyof typeof AUDIT_EXIT_CODES, RegExp, Change][] = [
    [
      'half the noise, charged as such',
      'noise',
      /noise of 4 members/,
      reparametrized(half, (events) => events.replaceAll('"shareVariance":2048', '"shareVariance":1024')),
    ],
    ['half the noise, charged as announced', 'noise', /noise of 4 members/, reparametrized(half, (events) => events)],
    [
      'more bins',
      'noise',
      /histogram of 5 bins/,
      reparametrized(
        () => ({ layout: [{ segment: 'metrics', length: 6 }] }),
        (events) => events.replaceAll('"dimension":5', '"dimension":6'),
      ),
    ],
    [
      'another vector under the name of metrics',
      'noise',
      /histogram of 5 bins/,
      reparametrized(
        () => ({ layout: [{ segment: 'losses', length: 5 }] }),
        (events) => events,
      ),
    ],
    [
      'a sensitivity without the move from bin to bin',
      'noise',
      /"events"/,
      reparametrized(
        () => ({}),
        (events) => events.replaceAll('"22.627416997969522"', '16'),
      ),
    ],
    [
      'another scale than the charge says',
      'noise',
      /"shareVariance"/,
      reparametrized(
        ({ encoding }) => ({ encoding: { ...encoding, scale: 64 } }),
        (events) => events,
      ),
    ],
    [
      'a ten where a member adds a one',
      'noise',
      /a single one/,
      reparametrized(
        ({ encoding }) => ({ encoding: { ...encoding, clippingNorm: 10 } }),
        (events) => events,
      ),
    ],
    [
      'the purpose of a training step',
      'rules',
      /purpose/,
      reparametrized(
        () => ({ purpose: 'train' }),
        (events) => events,
      ),
    ],
    [
      'a run that never announced metrics',
      'rules',
      /without metrics/,
      (specs) => {
        const config = fromUtf8(createBundle().files.get('config.json') as Uint8Array);
        const plain = createBundle().lines[1] as string;
        const { taskHash } = (JSON.parse(plain) as { body: { taskHash: string } }).body;
        return specs
          .filter((spec) => isOf(spec, 'genesis') || isOf(spec, 'run.open') || spec.body['kind'] === 'metrics')
          .map((spec) =>
            isOf(spec, 'run.open')
              ? { ...spec, body: { ...spec.body, config: JSON.parse(config) as unknown, taskHash } }
              : spec,
          );
      },
    ],
    [
      'accuracies that do not follow from the sum',
      'sums',
      /"histogram\[1\]"/,
      editHistogram((body) => ({
        ...body,
        histogram: (body['histogram'] as string[]).map((count, bin) => (bin === 1 ? String(Number(count) - 1) : count)),
      })),
    ],
    ['accuracies of another step', 'rules', /"step" is not the one/, editHistogram((body) => ({ ...body, step: 3 }))],
    [
      'fewer bins in the log than were released',
      'sums',
      /"histogram" expected 5 bins/,
      editHistogram((body) => ({ ...body, histogram: (body['histogram'] as string[]).slice(1) })),
    ],
    [
      'accuracies that were asked for twice',
      'rules',
      /released before/,
      (specs) => {
        const last = specs.findLastIndex((spec) => isOf(spec, 'round.open') && spec.body['kind'] === 'metrics');
        const first = specs[metricsAt(specs)] as EntrySpec;
        const again = specs[last] as EntrySpec;
        const params = decodeParams(fromBase64(again.body['params'] as string));
        const { taskHash } = decodeParams(fromBase64(first.body['params'] as string));
        const changed = { ...params, taskHash };
        const body = {
          ...again.body,
          step: first.body['step'],
          params: toBase64(encodeParams(changed)),
          sid: toHex(sessionId(nodeCrypto, changed)),
        };
        return specs.map((spec, i) => (i === last ? { ...spec, body } : spec));
      },
    ],
    [
      'accuracies after a step that the schedule does not name',
      'rules',
      /outside of the schedule: after step 2/,
      (specs) => specs.map((spec, i) => (i === metricsAt(specs) ? { ...spec, body: { ...spec.body, step: 2 } } : spec)),
    ],
  ];

  it.each(FORGERIES)('fails: %s', async (_name, expected, message, specs) => {
    const report = await audit(specs);
    expect(report.failure?.message).toMatch(message);
    expect(report.failure?.class).toBe(expected);
  });
});
