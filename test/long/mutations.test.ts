import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

/*
 * Every check below is taken out of a copy of the machines, one at a time; the suite named beside it must turn red. A check that nothing misses is no check.
 */

interface Mutation {
  readonly name: string;
  /** The suite that must notice, in test/. */
  readonly suite: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const MUTATIONS: readonly Mutation[] = [
  {
    name: 'U1 may hold as many colluders as the coordinator likes',
    suite: 'attacks/cohort',
    file: 'cohort.ts',
    from: 'if (!isSparse && 3 * params.colluders >= members) {',
    to: 'if (params.colluders < 0) {',
  },
  {
    name: 'advertised keys may repeat',
    suite: 'attacks/cohort',
    file: 'cohort.ts',
    from: 'if (keys.size !== 2 * members)',
    to: 'if (keys.size === 0)',
  },
  {
    name: 'the own advertisement may be another one',
    suite: 'attacks/cohort',
    file: 'participant-share.ts',
    from: 'if (ownBody === undefined || !equalBytes(ownBody, p1.body)) {',
    to: 'if (ownBody === undefined) {',
  },
  {
    name: 'dealers may have signed different lists of members',
    suite: 'session-machine',
    file: 'cohort.ts',
    from: 'if (!equalBytes(h1, cohort.h1))',
    to: 'if (h1.length === 0)',
  },
  {
    name: 'shares need no path to the signed root',
    suite: 'attacks/shares-and-uploads',
    file: 'participant-share.ts',
    from: 'if (!verifyInclusion(',
    to: 'if (ownRank < 0 && !verifyInclusion(',
  },
  {
    name: 'shares need not open their commitments',
    suite: 'attacks/shares-and-uploads',
    file: 'participant-share.ts',
    from: 'if (!equalBytes(encodeLeaf({ ...opened, ciphertextHash: leaf.ciphertextHash }), encodeLeaf(leaf)))',
    to: 'if (opened.commitmentB.length === 0)',
  },
  {
    name: 'survivors may have seen other dealers',
    suite: 'attacks/split-views',
    file: 'participant-unmask.ts',
    from: 'if (!equalBytes(upload.h2, h2))',
    to: 'if (upload.h2.length === 0)',
  },
  {
    name: 'the own upload may have another digest in U3',
    suite: 'session-machine',
    file: 'participant-unmask.ts',
    from: 'if (own === undefined || !equalBytes(own.digest, digest))',
    to: 'if (own === undefined)',
  },
  {
    name: 'a certificate may hold fewer signatures than the threshold',
    suite: 'attacks/split-views',
    file: 'participant-unmask.ts',
    from: 'if (signatures < cohort.quorum) {',
    to: 'if (signatures < 1) {',
  },
  {
    name: 'a certificate may be about another survivor set',
    suite: 'attacks/split-views',
    file: 'participant-unmask.ts',
    from: 'if (!equalBytes(signed, h3))',
    to: 'if (signed.length === 0)',
  },
  {
    name: 'too many members of the census may be missing',
    suite: 'session-machine',
    file: 'participant-unmask.ts',
    from: 'if (missing > params.maxLoss) {',
    to: 'if (missing > 1_000) {',
  },
  {
    name: 'old sessions may come again',
    suite: 'session-machine',
    file: 'params.ts',
    from: 'if (at < 0 || (now[at] as number) < (before[at] as number)) {',
    to: 'if (at > 3) {',
  },
  {
    name: 'a number may be used again after an upload',
    suite: 'session-machine',
    file: 'params.ts',
    from: 'if (last.uploaded && at === 2)',
    to: 'if (last.uploaded && at === 4)',
  },
  {
    name: 'an upload leaves before its record is durable',
    suite: 'simulation/simulation',
    file: 'participant-local.ts',
    from: `      { type: 'persist', record: { kind: 'uploaded', runId, sid, round, purpose, digest } },
      { type: 'send', message },`,
    to: `      { type: 'send', message },
      { type: 'persist', record: { kind: 'uploaded', runId, sid, round, purpose, digest } },`,
  },
  {
    name: 'shares are opened without settling the charge',
    suite: 'simulation/simulation',
    file: 'participant.ts',
    from: "          { type: 'settle', params, sid, h3: agreement.h3, survivors },\n",
    to: '',
  },
  {
    name: 'pair masks are the same whatever the dealers were',
    suite: 'attacks/split-views',
    file: 'key-schedule.ts',
    from: 'utf8(LABELS.pairMask), h2,',
    to: 'utf8(LABELS.pairMask), new Uint8Array(32),',
  },
  {
    name: 'an upload may differ from its signed digest',
    suite: 'attacks/shares-and-uploads',
    file: 'aggregator.ts',
    from: 'if (!equalBytes(crypto.sha256(message.attachment), digest))',
    to: 'if (digest.length === 0)',
  },
  {
    name: 'openings need not fit the commitments',
    suite: 'attacks/shares-and-uploads',
    file: 'aggregator-unmask.ts',
    from: 'if (!equalBytes(commitment, commitmentOf(bundle, rank, label, root))) {',
    to: 'if (commitment.length !== commitmentOf(bundle, rank, label, root).length) {',
  },
  {
    name: 'what is left of the masks of a dropped member is taken off with one sign',
    suite: 'attacks/shares-and-uploads',
    file: 'aggregator-unmask.ts',
    from: 'return { seed, sign: pairSign(id, survivor) };',
    to: 'return { seed, sign: 1 };',
  },
  {
    name: 'more members may be lost than noise was made for',
    suite: 'attacks/removable-noise',
    file: 'participant-unmask.ts',
    from: 'dropped > params.noise.tolerance) {',
    to: 'dropped > 1_000) {',
  },
  {
    name: 'the root of noise that must stay is opened with the others',
    suite: 'attacks/removable-noise',
    file: 'noise-seeds.ts',
    from: 'return dropped < componentCount(params, members) ? dropped + 1 : null;',
    to: 'return dropped < componentCount(params, members) ? Math.max(1, dropped) : null;',
  },
  {
    name: 'a member counts the lost among its neighbours alone',
    suite: 'attacks/sparse-removable-noise',
    file: 'participant-unmask.ts',
    from: 'const first = firstRemoved(params, dealers.length, dealers.length - agreement.survivors.length);',
    to: 'const first = firstRemoved(params, dealers.length, dealers.filter(({ id }) => held.has(rankOf(cohort.advertisements, id)) && rankOf(agreement.survivors, id) < 0).length);',
  },
  {
    name: 'roots of noise need not lead to the published end of their chain',
    suite: 'attacks/removable-noise',
    file: 'aggregator-unmask.ts',
    from: 'return equalBytes(end, noiseCommitment ?? new Uint8Array(0));',
    to: 'return end.length > 0;',
  },
  {
    name: 'fewer members than the fewest survivors will do',
    suite: 'simulation/simulation',
    file: 'roster.ts',
    from: 'const fewest = Math.max(quorum, params.minSurvivors);',
    to: 'const fewest = Math.min(quorum, params.minSurvivors);',
  },
  {
    name: 'a reveal need not open its commitment',
    suite: 'attacks/sparse-reveal',
    file: 'cohort.ts',
    from: 'if (graphCommitment === null || !equalBytes(commitGraphSeed(crypto, sid, id, reveal.seed), graphCommitment))',
    to: 'if (graphCommitment === null || commitGraphSeed(crypto, sid, id, reveal.seed).length === 0)',
  },
  {
    name: 'a reveal may have been given under another U1',
    suite: 'attacks/sparse-graph',
    file: 'cohort.ts',
    from: 'if (!equalBytes(reveal.h1, h1))',
    to: 'if (reveal.h1.length !== h1.length)',
  },
  {
    name: 'a reveal need not be signed by its member',
    suite: 'attacks/sparse-graph',
    file: 'cohort.ts',
    from: 'requireSignature(crypto, message, sid, entry?.publicKey ?? reveal.id);',
    to: 'if (entry === undefined) requireSignature(crypto, message, sid, reveal.id);',
  },
  {
    name: 'the committee need not be complete',
    suite: 'attacks/sparse-graph',
    file: 'cohort.ts',
    from: 'if (messages.length !== plan.committee.length)',
    to: 'if (messages.length > plan.committee.length)',
  },
  {
    name: 'the committee need not be in order',
    suite: 'attacks/sparse-graph',
    file: 'cohort.ts',
    from: 'if (!equalBytes(reveal.id, member.id))',
    to: 'if (rankOf(advertisements, reveal.id) < 0)',
  },
  {
    name: 'the ring may be cut in U2',
    suite: 'attacks/sparse-graph',
    file: 'cohort.ts',
    from: '  requireUncut(cohort, dealers);\n',
    to: '',
  },
  {
    name: 'the ring may be cut in U3',
    suite: 'attacks/sparse-graph',
    file: 'participant-unmask.ts',
    from: '  requireUncut(cohort, survivors);\n',
    to: '',
  },
  {
    name: 'half of the members make a sparse certificate',
    suite: 'attacks/sparse-views',
    file: 'roster.ts',
    from: 'return Math.floor((members + colluders) / 2) + 1;',
    to: 'return Math.floor((members - colluders) / 2);',
  },
  {
    name: 'everybody in U1 holds shares, not the neighbours alone',
    suite: 'attacks/sparse-shares',
    file: 'cohort.ts',
    from: 'return neighboursOf(graph, dealer);',
    to: 'return advertisements.map((_, rank) => rank).filter((rank) => rank !== dealer);',
  },
  {
    name: 'a complaint may name anybody in U2',
    suite: 'attacks/sparse-shares',
    file: 'aggregator.ts',
    from: 'arePeers(cohort, rankOf(cohort.advertisements, dealer), rankOf(cohort.advertisements, from));',
    to: '!equalBytes(dealer, from);',
  },
  {
    name: 'corrupt neighbours do not raise the sparse threshold',
    suite: 'attacks/sparse-coalition',
    file: 'graph.ts',
    from: "const least = model === 'semi-honest' ? mostCorrupt + 1 : Math.floor((degree + mostCorrupt) / 2) + 1;",
    to: 'const least = mostCorrupt + 1;',
  },
  {
    name: 'corrupt neighbours may hold t shares',
    suite: 'attacks/sparse-coalition',
    file: 'graph.ts',
    from: 'const threshold = Math.max(least, 2);',
    to: 'const threshold = least < 0 ? least : 2;',
  },
  {
    name: 'a member that was away gets the reveals without U1',
    suite: 'attacks/sparse-reveal',
    file: 'aggregator.ts',
    from: "message?.type === 'p1r-all' ? [composeMembers(crypto, state, session), message] : [message]",
    to: "message?.type === 'p1r-all' && session.p1.length < 0 ? [composeMembers(crypto, state, session), message] : [message]",
  },
];

const ROOT = resolve(import.meta.dirname, '../..');
const SOURCES = ['protocol', 'platform', 'src', 'clients', 'server', 'experiments', 'cli', 'bench', 'scripts', 'test'];
const SETTINGS = ['package.json', 'tsconfig.json', 'tsconfig.base.json', 'vitest.config.ts'];
const copy = mkdtempSync(join(tmpdir(), 'covey-mutants-'));
for (const name of [...SOURCES, ...SETTINGS]) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
afterAll(() => rmSync(copy, { recursive: true, force: true }));

/** Names of the first tests of these suites that fail in the copy; empty if all pass. */
function failures(suites: readonly string[]): string[] {
  const report = join(copy, 'report.json');
  try {
    execFileSync(
      process.execPath,
      [
        join(ROOT, 'node_modules/vitest/vitest.mjs'),
        ...['run', ...suites.map((suite) => `test/${suite}.test.ts`), '--bail', '1', '--maxWorkers', '1'],
        ...['--reporter', 'json', '--outputFile', report],
      ],
      { cwd: copy, stdio: 'ignore', env: { ...process.env, VITEST: '' } },
    );
    return [];
  } catch {
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
      testResults: { assertionResults: { status: string; fullName: string }[]; message: string; name: string }[];
    };
    const failed = testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status === 'failed')
      .map(({ fullName }) => fullName);
    // A copy that does not even load proves nothing.
    if (failed.length === 0) throw new Error(testResults.map(({ message }) => message).join('\n'));
    return failed;
  }
}

describe('the attacks and simulated worlds', () => {
  it('pass on the machines as they are', () => {
    expect(failures([...new Set(MUTATIONS.map(({ suite }) => suite))])).toEqual([]);
  });

  for (const { name, suite, file, from, to } of MUTATIONS) {
    it(`notice if ${name}`, () => {
      const path = join(copy, 'protocol', file);
      const source = readFileSync(path, 'utf8');
      expect(source.split(from).length - 1).toBe(1);
      writeFileSync(path, source.replace(from, to));
      try {
        const [first = ''] = failures([suite]);
        expect(first).not.toBe('');
        process.stdout.write(`${name} -> ${first}\n`);
      } finally {
        writeFileSync(path, source);
      }
    });
  }
});
