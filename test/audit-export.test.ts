import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createKeyFile } from '../platform/node/key-file.ts';
import { toHex, utf8 } from '../protocol/bytes.ts';
import { resultsOfLog } from '../src/audit/index.ts';
import { parseResults } from '../src/audit/results.ts';
import { type AuditReport, verifyBundle } from '../src/audit/verifier.ts';
import { spentBudgets } from '../src/budget/spent.ts';
import { buildRoster, federationToJson } from '../src/run/roster.ts';
import { runBuilt } from './support/built-command.ts';
import { createBundle, readerOf, type TestBundle } from './support/bundle.ts';

const logOf = ({ lines }: TestBundle): Uint8Array => utf8(`${lines.join('\n')}\n`);

describe('what a run says of itself by its log', () => {
  it('claims what the charges come to, for everybody and each', () => {
    const log = logOf(createBundle());
    const { claims, table } = resultsOfLog(log, nodeCrypto);
    const { rows } = spentBudgets(log, nodeCrypto);
    for (const { id, spent } of rows) expect(claims.perParticipant[id]).toEqual(spent);
    expect(claims.server.epsilon).toBe(Math.max(...rows.map(({ spent }) => spent.server)));
    expect(claims.release.epsilon).toBe(Math.max(...rows.map(({ spent }) => spent.release)));
    expect(claims.server.epsilon).toBeGreaterThan(0);
    expect(table).toEqual([]);
  });

  it.each([
    ['in a run with slots', {}],
    ['in a run that released accuracies', { metrics: true }],
  ])('passes the audit %s', async (_, changes) => {
    const results = resultsOfLog(logOf(createBundle(changes)), nodeCrypto);
    const report = await verifyBundle(createBundle({ ...changes, results: () => results }).reader, nodeCrypto);
    expect(report.failure).toBeNull();
    const page = new TextDecoder().decode(
      createBundle({ ...changes, results: () => results }).files.get('report.html'),
    );
    expect(page).not.toContain('What training together brought');
    expect(page).toContain('metrics' in changes ? 'released as a charged sum' : 'no accuracy was released');
  });

  it('is refused where the log breaks a rule', () => {
    const { lines } = createBundle();
    expect(() => resultsOfLog(utf8(`${lines.slice(1).join('\n')}\n`), nodeCrypto)).toThrow(/genesis/);
  });
});

describe('covey audit export', () => {
  let base: string;
  const bundle = createBundle();
  const path = (name: string): string => join(base, name);
  const put = async (name: string, data: string | Uint8Array): Promise<void> => {
    await mkdir(dirname(path(name)), { recursive: true });
    await writeFile(path(name), data);
  };
  const exportTo = (out: string, ...more: readonly string[]) =>
    runBuilt(['audit', 'export', '--config', path('covey.yaml'), '--out', path(out), ...more]);

  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), 'covey-export-'));
    const { coordinator, files, members } = bundle;
    const roster = buildRoster(nodeCrypto, 1, members);
    await put('federation.json', JSON.stringify(federationToJson({ coordinatorKey: coordinator.publicKey, roster })));
    await createKeyFile(path('coordinator.key'), coordinator.seed);
    await createKeyFile(path('member.key'), (members[0] as (typeof members)[number]).seed);
    await put(
      'covey.yaml',
      'federation: federation.json\nkey: coordinator.key\nstate: state\nrun: { scenario: digits, seed: 1 }\n',
    );
    for (const [name, bytes] of files)
      if (/^(log\.jsonl|config\.json|checkpoint|sums\/|models\/)/.test(name))
        await put(join('state', 'run', name), bytes);
      else if (name.startsWith('ledgers/')) await put(name, bytes);
  });
  afterAll(() => rm(base, { recursive: true, force: true }));

  it('writes a bundle that is verified, with the ledgers that members gave', async () => {
    const { code, stderr, stdout } = await exportTo('bundle', '--ledgers', path('ledgers'));
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('VERIFIED: every check held.');
    expect(stdout).toContain(`${bundle.members.length} participant ledgers agree with the log`);
    const files = await readdir(path('bundle'));
    for (const name of ['report.html', 'manifest.note', 'federation.json', 'ledgers', 'sums'])
      expect(files).toContain(name);
    const held = new Map<string, Uint8Array>();
    for (const entry of await readdir(path('bundle'), { recursive: true, withFileTypes: true }))
      if (entry.isFile()) {
        const full = join(entry.parentPath, entry.name);
        held.set(full.slice(path('bundle').length + 1).replaceAll('\\', '/'), new Uint8Array(await readFile(full)));
      }
    const report = await verifyBundle(readerOf(held), nodeCrypto, {
      pinnedCoordinatorKey: bundle.coordinator.publicKey,
    });
    expect(report.failure).toBeNull();
    // Nothing but what was there and what follows from it: no key among it.
    for (const bytes of held.values())
      expect(Buffer.from(bytes).toString('latin1')).not.toContain(toHex(bundle.coordinator.seed));
    expect(parseResults(held.get('results.json') as Uint8Array).claims.server.epsilon).toBeGreaterThan(0);
  });

  it('says which ledgers are missing', async () => {
    const { code, stdout } = await exportTo('without', '--json');
    expect(code).toBe(0);
    const { assumed, ok } = JSON.parse(stdout) as AuditReport;
    expect(ok).toBe(true);
    expect(assumed.join()).toContain('their ledgers are not in the bundle');
  });

  it('tells of a ledger that the log contradicts, with the exit code of its class', async () => {
    const [member] = bundle.members as [(typeof bundle.members)[number]];
    const own = await readFile(path(`ledgers/${member.id}.jsonl`), 'utf8');
    await put('short/one.jsonl', `${own.split('\n').slice(0, 1).join('\n')}\n`);
    const { code, stdout } = await exportTo('contradicted', '--ledgers', path('short'));
    expect(stdout).toMatch(/^FAILED \(ledger, exit \d+\)/);
    expect(code).toBe(Number(/exit (\d+)/.exec(stdout)?.[1]));
  });

  it.each<[string, readonly string[], RegExp]>([
    ['a folder that holds something', ['bundle'], /"out" expected a new or empty folder/],
    [
      'a folder of ledgers that is not there',
      ['new1', '--ledgers', 'gone'],
      /"--ledgers" expected a folder, got ENOENT/,
    ],
  ])('refuses %s', async (_, [out = '', ...more], line) => {
    const { code, stderr } = await exportTo(out, ...more);
    expect(code).toBe(2);
    expect(stderr).toMatch(line);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  it('refuses files that are no ledger, another key and a run that has not ended', async () => {
    await put('strange/one.jsonl', 'hello\n');
    expect((await exportTo('new2', '--ledgers', path('strange'))).stderr).toMatch(
      /expected signed charges of a member/,
    );
    const yaml = await readFile(path('covey.yaml'), 'utf8');
    await put('other.yaml', yaml.replace('coordinator.key', 'member.key'));
    await put('early.yaml', yaml.replace('state: state', 'state: nothing'));
    for (const [file, line] of [
      ['other.yaml', /"key" expected the coordinator key of the federation file/],
      ['early.yaml', /"state" expected a run that ended.*hint: covey server writes it at the end of a run/],
    ] as const) {
      const { code, stderr } = await runBuilt(['audit', 'export', '--config', path(file), '--out', path('new3')]);
      expect([code, stderr.trim().split('\n').length]).toEqual([2, 1]);
      expect(stderr).toMatch(line);
    }
    // Nothing was left behind.
    expect(await readdir(base)).not.toContain('new3');
  });
});
