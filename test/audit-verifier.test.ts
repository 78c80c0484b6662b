import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8, toHex, utf8 } from '../protocol/bytes.ts';
import { checkNoise } from '../src/audit/check-noise.ts';
import { signEntry, type UnsignedEntry } from '../src/audit/entries.ts';
import { AUDIT_EXIT_CODES } from '../src/audit/failures.ts';
import { readLog } from '../src/audit/read-log.ts';
import { replayLog } from '../src/audit/replay.ts';
import { type AuditReport, formatAudit, verifyBundle } from '../src/audit/verifier.ts';
import { type BundleChanges, createBundle, type EntrySpec, readerOf } from './support/bundle.ts';

const crypto = nodeCrypto;
const audit = (changes: BundleChanges = {}): Promise<AuditReport> => verifyBundle(createBundle(changes).reader, crypto);
const indexOf = (specs: readonly EntrySpec[], type: string, nth = 0): number =>
  specs.flatMap((spec, i) => (spec.type === type ? [i] : []))[nth] ?? -1;

/** Changes the body of the nth entry of a kind before everything is signed. */
const edit =
  (type: string, nth: number, change: (body: Record<string, unknown>) => Record<string, unknown>) =>
  (specs: EntrySpec[]): EntrySpec[] => {
    const at = indexOf(specs, type, nth);
    return specs.map((spec, i) => (i === at ? { ...spec, body: change(spec.body) } : spec));
  };

describe('a valid bundle', () => {
  it('passes with exit code 0 and says what it proved, what is attested and what is assumed', async () => {
    const { reader, coordinator } = createBundle();
    const report = await verifyBundle(reader, crypto, { pinnedCoordinatorKey: coordinator.publicKey });
    expect(formatAudit(report)).toContain('VERIFIED');
    expect(report.exitCode).toBe(0);
    expect(report.proved).toContain(
      '6 releases, each charged by every survivor and by the coordinator before unmasking, never fewer than 3 survivors',
    );
    expect(report.assumed.length).toBeGreaterThanOrEqual(4);
  });

  it('fails against another pinned key', async () => {
    const { reader, members } = createBundle();
    const report = await verifyBundle(reader, crypto, {
      pinnedCoordinatorKey: members[0]?.publicKey ?? new Uint8Array(32),
    });
    expect(report).toMatchObject({ exitCode: AUDIT_EXIT_CODES.manifest, failure: { class: 'manifest' } });
  });

  it('passes where the run announces Skellam noise, and its report says so', async () => {
    const { reader, files } = createBundle({ noise: { announced: 'skellam', used: 'skellam' } });
    const report = await verifyBundle(reader, crypto);
    expect(report.failure).toBeNull();
    expect(report.exitCode).toBe(0);
    expect(fromUtf8(files.get('report.html') as Uint8Array)).toContain('Skellam noise, a share');
    expect(fromUtf8(createBundle().files.get('report.html') as Uint8Array)).toContain(
      'discrete Gaussian noise, a share',
    );
  });

  it('derives the charge of noise that is exact whoever drops out, and its report says so', async () => {
    const noise = { announced: 'skellam', used: 'skellam', tolerance: { announced: 1, used: 1 } } as const;
    const { reader, files } = createBundle({ noise });
    const report = await verifyBundle(reader, crypto);
    expect(report.failure).toBeNull();
    expect(fromUtf8(files.get('report.html') as Uint8Array)).toContain('exact for whoever survives a training step');
    // Two of four survive less than one lost allows: charged as three shares, or as shares that stay.
    const shares = (factor: number) => (specs: EntrySpec[]) => {
      const text = JSON.stringify(specs.map(({ body }) => body));
      const changed = JSON.parse(text.replaceAll('"variance":9000000', `"variance":${factor * 3_000_000}`)) as Record<
        string,
        unknown
      >[];
      expect(text.includes('"variance":9000000')).toBe(true);
      return specs.map((spec, i) => ({ ...spec, body: changed[i] as Record<string, unknown> }));
    };
    expect((await audit({ noise, specs: shares(4) })).failure).toMatchObject({ class: 'noise' });
    const history = replayLog(readLog(files.get('log.jsonl') as Uint8Array, crypto), crypto);
    expect(checkNoise(history)).toBeGreaterThan(0);
    const sessions = history.sessions.map((session) =>
      session.release === undefined
        ? session
        : { ...session, release: { ...session.release, body: { ...session.release.body, u2: 5 } } },
    );
    expect(() => checkNoise({ ...history, sessions })).toThrow(/"survivors" expected at most 1 of 5 lost/);
  });

  it.each([
    ['discrete-gaussian', [0, 1, 2]],
    ['skellam', [1, 2]],
  ] as const)('has the slots open that pass the margin of %s noise', async (law, open) => {
    // Least counts: 3 + 1 lost + 5.51 under the Gaussian bound, + 5.84 under that of Skellam noise.
    const counts = [9.625, 40, 10, 2];
    const bytes = new Uint8Array(Int32Array.from(counts, (count) => 16 * count).buffer);
    const bundle = (claimed: readonly number[]) => ({
      noise: { announced: law, used: law },
      cohort: { minCluster: 3, participants: 4 },
      sums: (sums: Map<string, Uint8Array>) => sums.set([...sums.keys()][2] ?? '', bytes),
      specs: (specs: EntrySpec[]) => {
        const census = { counts: counts.map(String), open: claimed };
        const changed = edit('cluster.census', 0, (body) => ({ ...body, ...census }))(specs);
        const kept = edit('cluster.assign', 0, (body) => ({ ...body, kept: [1, 2] }))(changed);
        const hash = toHex(crypto.sha256(bytes));
        return edit('round.release', 2, (body) => ({ ...body, sumHash: hash }))(kept);
      },
    });
    expect((await audit(bundle(open))).failure).toBeNull();
    const lie = await audit(bundle(open.length === 2 ? [0, 1, 2] : [1, 2]));
    expect(lie.failure).toMatchObject({ class: 'sums' });
    expect(lie.failure?.message).toMatch(/"open" expected/);
  });

  it('passes without the ledgers, but says so', async () => {
    const report = await audit({ ledgers: (ledgers) => ledgers.delete([...ledgers.keys()][0] ?? '') });
    expect(report.exitCode).toBe(0);
    expect(report.assumed.at(-1)).toMatch(/their ledgers are not in the bundle/);
  });
});

describe('a file that changed after it was signed', () => {
  const { files, lines } = createBundle();
  const log = files.get('log.jsonl') as Uint8Array;
  const starts = [0];
  for (const line of lines) starts.push((starts.at(-1) as number) + utf8(line).length + 1);

  it.each(Array.from({ length: 40 }, (_, i) => Math.floor(((i + 0.37) * log.length) / 40)))(
    'is found: byte %i of the log, by line',
    async (position) => {
      const changed = log.slice();
      changed[position] = (changed[position] as number) ^ 0x01;
      const report = await verifyBundle(readerOf(new Map(files).set('log.jsonl', changed)), crypto);
      const line = starts.findIndex((start) => start > position);
      expect(report.exitCode).toBe(AUDIT_EXIT_CODES.files);
      expect(report.failure).toMatchObject({ file: 'log.jsonl', line });
      expect(report.failure?.byte).toBe(starts[line - 1]);
      expect(report.failure?.endByte).toBeGreaterThanOrEqual(position);
    },
  );

  it.each(['config.json', 'results.json', 'report.html', 'checkpoint', 'manifest.json', 'manifest.note'])(
    'is found: %s',
    async (path) => {
      const changed = (files.get(path) as Uint8Array).slice();
      changed[10] = (changed[10] as number) ^ 0x01;
      const report = await verifyBundle(readerOf(new Map(files).set(path, changed)), crypto);
      expect(report.ok).toBe(false);
      expect(report.failure?.file).toBe(path);
    },
  );

  it('is found: cut, missing, added', async () => {
    const cut = await verifyBundle(readerOf(new Map(files).set('log.jsonl', log.subarray(0, starts.at(-2)))), crypto);
    expect(cut.failure).toMatchObject({ class: 'files', file: 'log.jsonl', line: lines.length });
    const missing = new Map(files);
    missing.delete('results.json');
    expect((await verifyBundle(readerOf(missing), crypto)).failure).toMatchObject({
      class: 'files',
      file: 'results.json',
    });
    const added = await verifyBundle(readerOf(new Map(files).set('more.txt', utf8('x'))), crypto);
    expect(added.failure).toMatchObject({ class: 'files', file: 'more.txt' });
  });
});

const swap = <T>(items: T[], a: number, b: number): T[] =>
  items.map((item, i) => items[i === a ? b : i === b ? a : i] ?? item);

/** Everything that a coordinator could sign over again with its own key. */
const FORGERIES: readonly [
  name: string,
  expected: keyof typeof AUDIT_EXIT_CODES,
  message: RegExp,
  changes: BundleChanges,
][] = [
  [
    'a tree head over fewer entries',
    'checkpoint',
    /covers/,
    {
      files: (files) =>
        files.set(
          'checkpoint',
          createBundle({ lines: (lines) => lines.slice(0, -1) }).files.get('checkpoint') as Uint8Array,
        ),
    },
  ],
  [
    'a tree head over another log',
    'checkpoint',
    /root/,
    {
      files: (files) =>
        files.set(
          'checkpoint',
          createBundle({ specs: (specs) => swap(specs, 3, 4) }).files.get('checkpoint') as Uint8Array,
        ),
    },
  ],
  [
    'a line with spaces',
    'entry',
    /ascending|canonical|"/,
    { lines: (lines) => lines.map((line, i) => (i === 5 ? line.replace(',', ', ') : line)) },
  ],
  [
    'a line of an unknown kind',
    'entry',
    /known kind/,
    { lines: (lines) => lines.map((line, i) => (i === 5 ? line.replace('"client.charge"', '"client.refund"') : line)) },
  ],
  [
    'a participant charge that the coordinator wrote',
    'signature',
    /signature/,
    {
      specs: (specs, { coordinator }) =>
        specs.map((spec) =>
          spec.type === 'client.charge' ? { ...spec, actor: { ...spec.actor, seed: coordinator.seed } } : spec,
        ),
    },
  ],
  ['a dropped entry', 'chain', /"seq"/, { lines: (lines) => lines.filter((_, i) => i !== 4) }],
  ['two entries of the coordinator in another order', 'chain', /"seq"/, { lines: (lines) => swap(lines, 1, 2) }],
  [
    'an entry that was written over, with the right number',
    'chain',
    /"prevByActor"/,
    {
      lines: (lines, { coordinator }) => {
        const last = JSON.parse(lines.at(-1) ?? '') as UnsignedEntry;
        return [...lines.slice(0, -1), signEntry({ ...last, prevByActor: '00'.repeat(32) }, coordinator.seed, crypto)];
      },
    },
  ],
  [
    'a doubled entry',
    'chain',
    /"seq"/,
    { lines: (lines) => [...lines.slice(0, 5), lines[4] ?? '', ...lines.slice(5)] },
  ],
  [
    'unmasking before the charge',
    'rules',
    /without an earlier charge/,
    { specs: (specs) => swap(specs, indexOf(specs, 'charge.reserve', 1), indexOf(specs, 'round.unmask', 1)) },
  ],
  [
    'no charge at all',
    'rules',
    /without an earlier charge/,
    { specs: (specs) => specs.filter((_, i) => i !== indexOf(specs, 'charge.reserve', 2)) },
  ],
  [
    'unmasking another survivor set than was charged',
    'rules',
    /without an earlier charge/,
    { specs: edit('round.unmask', 1, (body) => ({ ...body, h3: '00'.repeat(32) })) },
  ],
  [
    'a release without unmasking',
    'rules',
    /without an earlier request/,
    { specs: (specs) => specs.filter((_, i) => i !== indexOf(specs, 'round.unmask', 2)) },
  ],
  [
    'too few survivors',
    'rules',
    /at least 3/,
    {
      specs: edit('charge.reserve', 4, (body) => ({ ...body, survivors: (body['survivors'] as string[]).slice(0, 2) })),
    },
  ],
  [
    'a survivor who is not a member',
    'rules',
    /not on the roster/,
    {
      specs: edit('charge.reserve', 1, (body) => ({
        ...body,
        survivors: ['ab'.repeat(32), ...(body['survivors'] as string[]).slice(1)],
      })),
    },
  ],
  [
    'a survivor who never charged itself',
    'rules',
    /not charged its own ledger/,
    {
      specs: (specs, { members }) =>
        specs.filter(
          ({ actor, type, body }) => !(type === 'client.charge' && actor.id === members[1]?.id && body['round'] === 5),
        ),
    },
  ],
  [
    'a lowered threshold',
    'rules',
    /"threshold"/,
    { specs: edit('round.release', 2, (body) => ({ ...body, threshold: 2 })) },
  ],
  [
    'a second release',
    'rules',
    /twice/,
    {
      specs: (specs) => {
        const at = indexOf(specs, 'round.release', 1);
        return [...specs.slice(0, at + 1), specs[at] as EntrySpec, ...specs.slice(at + 1)];
      },
    },
  ],
  [
    'a spent round that is opened again',
    'rules',
    /spent/,
    { specs: edit('round.abort', 0, (body) => ({ ...body, uploadBegun: true })) },
  ],
  ['another configuration', 'rules', /configuration/, { files: (files) => files.set('config.json', utf8('{}\n')) }],
  [
    'slots kept against the counts',
    'rules',
    /largest noisy counts/,
    {
      specs: edit('cluster.assign', 0, (body) => ({
        ...body,
        kept: [0, 1, 2, 3].filter((slot) => !(body['kept'] as number[]).includes(slot)),
      })),
    },
  ],
  [
    'another sum',
    'sums',
    /not the released sum/,
    {
      files: (files) => {
        const path = [...files.keys()].filter((key) => key.startsWith('sums/'))[2] ?? '';
        const bytes = (files.get(path) as Uint8Array).slice();
        bytes[0] = (bytes[0] as number) ^ 1;
        files.set(path, bytes);
      },
    },
  ],
  [
    'counts that do not follow from the sum',
    'sums',
    /"counts\[0\]"/,
    {
      specs: edit('cluster.census', 0, (body) => ({
        ...body,
        counts: (body['counts'] as string[]).map((count) => String(Number(count) + 0.5)),
      })),
    },
  ],
  [
    'one share more than survived',
    'noise',
    /"events"/,
    {
      specs: edit('charge.reserve', 4, (body) => ({
        ...body,
        events: JSON.parse(JSON.stringify(body['events']).replaceAll('"shares":2', '"shares":3')),
      })),
    },
  ],
  [
    'a choice that was not charged',
    'noise',
    /"events"/,
    { specs: edit('charge.reserve', 2, (body) => ({ ...body, events: { server: [], release: [] } })) },
  ],
  [
    'less sensitivity than the clip gives',
    'noise',
    /"events"/,
    {
      specs: edit('client.charge', 8, (body) => ({
        ...body,
        events: JSON.parse(JSON.stringify(body['events']).replaceAll('"sensitivity":1024', '"sensitivity":512')),
      })),
    },
  ],
  [
    'a plan with less noise than it says',
    'noise',
    /honest shares carry less/,
    {
      specs: edit('run.open', 0, (body) => ({ ...body, plan: { ...(body['plan'] as object), noiseMultiplier: '3' } })),
    },
  ],
  [
    'an epsilon that is claimed too low',
    'epsilon',
    /claims\.server/,
    {
      results: (results) => ({
        ...results,
        claims: {
          ...results.claims,
          server: { ...results.claims.server, epsilon: results.claims.server.epsilon * 0.999 },
        },
      }),
    },
  ],
  [
    'one participant’s epsilon claimed too low',
    'epsilon',
    /perParticipant/,
    {
      results: (results) => ({
        ...results,
        claims: {
          ...results.claims,
          perParticipant: Object.fromEntries(
            Object.entries(results.claims.perParticipant).map(([id, claim], i) => [
              id,
              i === 2 ? { ...claim, release: claim.release - 0.01 } : claim,
            ]),
          ),
        },
      }),
    },
  ],
  [
    'a table that shows less than was spent',
    'epsilon',
    /table\.Clustered/,
    {
      results: (results) => ({
        ...results,
        table: results.table.map((row) => (row.simulated ? row : { ...row, epsilonServer: 1 })),
      }),
    },
  ],
  [
    'a claim at a larger delta',
    'epsilon',
    /delta/,
    {
      results: (results) => ({
        ...results,
        claims: { ...results.claims, server: { ...results.claims.server, delta: 1e-3 } },
      }),
    },
  ],
  [
    'a run beyond its budget',
    'epsilon',
    /budget/,
    { specs: edit('run.open', 0, (body) => ({ ...body, plan: { ...(body['plan'] as object), targetEpsilon: '1' } })) },
  ],
  [
    'a ledger that is shorter than the log',
    'ledger',
    /ends before/,
    { ledgers: (ledgers, { members }) => ledgers.get(members[0]?.id ?? '')?.pop() },
  ],
  [
    'a ledger with a gap',
    'ledger',
    /without gaps/,
    { ledgers: (ledgers, { members }) => ledgers.get(members[0]?.id ?? '')?.splice(2, 1) },
  ],
  [
    'a ledger of somebody else',
    'ledger',
    /of this participant/,
    { ledgers: (ledgers, { members }) => ledgers.set(members[0]?.id ?? '', ledgers.get(members[1]?.id ?? '') ?? []) },
  ],
  [
    'a ledger head that does not follow',
    'ledger',
    /"ledgerHead"/,
    { specs: edit('client.charge', 0, (body) => ({ ...body, ledgerHead: '11'.repeat(32) })) },
  ],
  [
    'a report with another number',
    'report',
    /report/,
    {
      files: (files) =>
        files.set('report.html', utf8(fromUtf8(files.get('report.html') as Uint8Array).replace('77.0 %', '78.0 %'))),
    },
  ],
];

describe('a bundle that was signed over a lie', () => {
  it.each([
    ['skellam', 'discrete-gaussian'],
    ['discrete-gaussian', 'skellam'],
    [undefined, 'skellam'],
  ] as const)('fails where the run announces %s noise and its sessions use %s', async (announced, used) => {
    const report = await audit({ noise: { ...(announced && { announced }), used } });
    expect(report.failure).toMatchObject({ class: 'noise' });
    expect(report.failure?.message).toMatch(/"noise.mechanism" expected/);
  });

  it.each([
    ['skellam', undefined, 1],
    ['skellam', 1, undefined],
    ['skellam', 1, 2],
    ['discrete-gaussian', 1, undefined],
  ] as const)(
    'fails where a run with %s noise announces a tolerance of %s and its sessions have %s',
    async (law, announced, used) => {
      const tolerance = { ...(announced && { announced }), ...(used && { used }) };
      const report = await audit({ noise: { announced: law, used: law, tolerance } });
      expect(report.failure).toMatchObject({ class: 'noise' });
      expect(report.failure?.message).toMatch(/"noise.tolerance" expected/);
    },
  );

  it.each(FORGERIES)('fails: %s', async (_name, expected, message, changes) => {
    const report = await audit(changes);
    expect(report.failure?.message).toMatch(message);
    expect(report.failure?.class).toBe(expected);
    expect(report.exitCode).toBe(AUDIT_EXIT_CODES[expected]);
    expect(report.failure?.file).toMatch(/./);
  });

  it('has a forgery for every class from the checkpoint on, and every class its own exit code', () => {
    const classes = Object.keys(AUDIT_EXIT_CODES).filter((kind) => kind !== 'files' && kind !== 'manifest');
    expect([...new Set(FORGERIES.map(([, kind]) => kind))].sort()).toEqual(classes.sort());
    expect(new Set(Object.values(AUDIT_EXIT_CODES)).size).toBe(Object.keys(AUDIT_EXIT_CODES).length);
  });

  it('fails where noise was left out of a released sum', async () => {
    const report = await audit({
      specs: edit('round.release', 4, (body) => ({
        ...body,
        sumHash: toHex(crypto.sha256(new Uint8Array(4 * 192))),
      })),
      sums: (sums) => sums.set([...sums.keys()][4] ?? '', new Uint8Array(4 * 192)),
    });
    expect(report.failure).toMatchObject({ class: 'noise' });
    expect(report.failure?.message).toMatch(/too quiet/);
  });
});
