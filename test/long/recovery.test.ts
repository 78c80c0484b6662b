import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type DemoFiles, writeDemoFiles } from '../../experiments/demo-setup.ts';
import { writeRunFolder } from '../../experiments/run-folder.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { listFiles } from '../../platform/node/list-files.ts';
import { verifyBundle } from '../../src/audit/index.ts';
import type { RunResults } from '../../src/audit/results.ts';
import { type BuiltProcess, startBuilt } from '../support/built-command.ts';
import { freePort } from '../support/free-port.ts';

const PHASES = ['advertise', 'share-keys', 'masked-input', 'consistency', 'unmask'] as const;
const folders: string[] = [];

afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

interface LogEntry {
  readonly type: string;
  readonly actor: string;
  readonly body: {
    readonly sid: string;
    readonly reason?: string;
    readonly kind?: string;
    readonly survivors?: unknown;
  };
}

/** Runs a federation whose coordinator is killed once in every phase and started again with the same folder. */
async function runWithKills(files: DemoFiles): Promise<{
  kills: number;
  releases: number;
  lastEpsilon: number;
  codes: (number | null)[];
  epsilons: Record<string, { server: number; release: number }>;
}> {
  const pending = [...PHASES] as string[];
  const processes: BuiltProcess[] = files.organizations.map(({ config }) =>
    startBuilt(['node', '--config', config, '--evaluate', '--json'], () => undefined),
  );
  let kills = 0;
  let releases = 0;
  let lastEpsilon = 0;
  let epsilons: Record<string, { server: number; release: number }> = {};
  for (let isDone = false; !isDone; ) {
    const coordinator: BuiltProcess = startBuilt(['server', '--config', files.serverConfig, '--json'], (line) => {
      if (line['event'] === 'release') {
        releases += 1;
        lastEpsilon = line['epsilonServer'] as number;
      }
      if (line['event'] === 'finished') epsilons = line['epsilons'] as typeof epsilons;
      // Round numbers of the schedule: one kill a round, in the next phase of the list.
      if (line['event'] === 'phase' && line['phase'] === pending[0] && line['kind'] === 'train') {
        pending.shift();
        kills += 1;
        coordinator.child.kill('SIGKILL');
      }
    });
    const code = await coordinator.exited;
    isDone = code !== null;
    if (isDone) expect(`${code} ${code === 0 ? '' : coordinator.errorTail()}`).toBe('0 ');
  }
  const codes = await Promise.all(processes.map(({ exited }) => exited));
  return { kills, releases, lastEpsilon, codes, epsilons };
}

describe('kill -9 of the coordinator', () => {
  it('in every phase: the run resumes and no ledger loses a charge', async () => {
    const base = await mkdtemp(join(tmpdir(), 'covey-recovery-'));
    folders.push(base);
    const plan = {
      scenario: 'digits',
      dataFolder: null,
      seed: 3,
      steps: 16,
      targetEpsilon: 30,
      participants: 8,
    } as const;
    const files = await writeDemoFiles(join(base, 'run'), plan, await freePort());
    const { kills, codes, lastEpsilon, epsilons } = await runWithKills(files);
    expect(kills).toBe(PHASES.length);
    expect(codes).toEqual(Array(8).fill(0));
    const results: RunResults = {
      claims: {
        server: { epsilon: lastEpsilon, delta: 1e-5 },
        release: { epsilon: lastEpsilon * 2, delta: 1e-5 },
        perParticipant: epsilons,
      },
      table: [],
      accuracyOverRounds: [],
      lost: [],
      clusters: [],
      note: 'recovery drill',
    };
    const bundle = await writeRunFolder(files, results);
    const report = await verifyBundle(
      { list: () => listFiles(bundle), read: async (path) => new Uint8Array(await readFile(join(bundle, path))) },
      nodeCrypto,
      { pinnedCoordinatorKey: files.coordinatorKey },
    );
    expect(report.failure).toBeNull();
    const log = (await readFile(join(bundle, 'log.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as LogEntry);
    const burned = log
      .filter(({ type, body }) => type === 'round.abort' && body.reason === 'the coordinator was restarted')
      .map(({ body }) => body.sid);
    expect(burned.length).toBe(PHASES.length);
    // Every training session was released although five were lost on the way.
    expect(log.filter(({ type, body }) => type === 'round.open' && body.kind === 'train').length).toBe(
      plan.steps + PHASES.length,
    );
    expect(log.filter(({ type }) => type === 'round.release').length).toBeGreaterThanOrEqual(plan.steps);
    // What a member reserved in a lost round stays reserved: no settlement, and it is in its ledger for good.
    for (const { id } of files.organizations) {
      const ledger = (await readFile(join(bundle, 'ledgers', `${id}.jsonl`), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as LogEntry);
      const lostReserves = ledger.filter(({ body }) => burned.includes(body.sid) && body.kind === 'reserve');
      expect(lostReserves.length).toBeGreaterThanOrEqual(2);
      const charged = new Set(log.filter(({ type }) => type === 'charge.reserve').map(({ body }) => body.sid));
      for (const sid of charged)
        expect(ledger.some(({ body }) => body.sid === sid && body.kind === 'reserve')).toBe(true);
    }
  });
});
