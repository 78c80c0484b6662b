import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { readStreamsOfCopy } from '../platform/node/store-copy.ts';
import { fromUtf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { type SpentLedger, type SpentPaths, spentBudgets, spentLedger } from '../src/budget/spent.ts';
import { addPlanCommand } from './budget-plan.ts';
import { deltaText, epsilonText } from './epsilon-text.ts';
import { table } from './table.ts';

/** Named where a claim rests on more than integers. */
const sumsText = (sums: SpentLedger['sums']): string => (sums === 'integer' ? '' : `, sums of records ${sums}`);

/** A node's ledger of a run, with the norms of its own updates by session. */
interface OwnLedger {
  readonly lines: readonly string[];
  readonly norms: ReadonlyMap<string, number>;
}

/** Ledgers in the store of a node, one of every run, as lines; from a copy, so that the node may be running. */
async function nodeLedgers(path: string): Promise<OwnLedger[]> {
  const streams = await readStreamsOfCopy(path, '');
  return [...streams].flatMap(([name, payloads]) => {
    if (!name.startsWith('ledger/')) return [];
    const own = (streams.get(`norms/${name.slice('ledger/'.length)}`) ?? []).map((payload) =>
      JSON.parse(fromUtf8(payload)),
    );
    const norms = new Map((own as { sid: string; norm: number }[]).map(({ norm, sid }) => [sid, norm]));
    return [{ lines: payloads.map(fromUtf8), norms }];
  });
}

/** A row of every payer and path: what the events of that part of the releases cost. */
function printPaths(head: string, payers: readonly { readonly name: string; readonly paths: SpentPaths }[]): void {
  const cell = (epsilon: number | undefined): string => (epsilon === undefined ? '-' : epsilonText(epsilon));
  const rows = payers.flatMap(({ name, paths }) =>
    paths.map(({ path, spent }, i) => [i === 0 ? name : '', path, cell(spent.server), cell(spent.release)]),
  );
  console.log(`\nBy path, the events of each part\n${table([[head, 'path', 'server view', 'release view'], ...rows])}`);
  console.log(
    '\nParts of one vector share one event: it is in each of their rows and once in the total, never added up.',
  );
}

function printLedgers(ledgers: readonly SpentLedger[]): void {
  const percent = (part: number, whole: number): string => `${Math.ceil((100 * part) / whole)} %`;
  const body = ledgers.map(({ participant, settled, reserved, spent, budgetEpsilon, budgetView, remaining }) => [
    participant.slice(0, 12),
    String(settled),
    String(reserved),
    ...(['server', 'release'] as const).map((view) => (spent[view] === undefined ? '-' : epsilonText(spent[view]))),
    (Math.floor(100 * remaining) / 100).toFixed(2),
    percent(spent[budgetView] ?? 0, budgetEpsilon),
  ]);
  console.log(table([['node', 'settled', 'reserved', 'server view', 'release view', 'remaining', 'used'], ...body]));
  printPaths(
    'node',
    ledgers.map(({ participant, paths }) => ({ name: participant.slice(0, 12), paths })),
  );
  for (const { ownLoss, participant } of ledgers)
    if (ownLoss !== null)
      console.log(
        `\n${participant.slice(0, 12)} by the norms of its own updates: ${epsilonText(ownLoss)} (server view). It depends on private values: not to be shown to others, and no reason to stay or leave.`,
      );
  for (const { unit, delta, relation, colluders, accountant, sums, budgetEpsilon, budgetView } of ledgers.slice(0, 1)) {
    console.log(
      `\nepsilon of one ${unit} at delta ${deltaText(delta)}, relation ${relation}, ${colluders} colluders assumed, accountant ${accountant}${sumsText(sums)}; budget ${budgetEpsilon} (${budgetView} view)`,
    );
  }
}

/** Ledgers that a path names: one in a file, or those in a node's folder; null for the folder of a run. */
async function ledgersAt(path: string): Promise<OwnLedger[] | null> {
  const isFile = async (name: string): Promise<boolean> => (await stat(name).catch(() => null))?.isFile() === true;
  if (await isFile(path)) {
    return path.endsWith('.sqlite')
      ? nodeLedgers(path)
      : [{ lines: (await readFile(path, 'utf8')).split('\n').filter((line) => line !== ''), norms: new Map() }];
  }
  return (await isFile(join(path, 'node.sqlite'))) ? nodeLedgers(join(path, 'node.sqlite')) : null;
}

async function show(folder: string, flags: { readonly json: boolean }): Promise<void> {
  const ledgers = await ledgersAt(folder);
  if (ledgers !== null) {
    // A bundle's ledgers/<id>.jsonl holds signed log entries, not the ledger of a node's own store.
    if (ledgers[0]?.lines[0]?.includes('"type":"client.charge"'))
      throw new CoveyError(
        'USAGE_CONFIG',
        `"folder" expected a node's own ledger, got a bundle's copy of its charges; hint: covey budget show ${dirname(dirname(folder))} shows all participants`,
      );
    const spent = ledgers.map(({ lines, norms }) => spentLedger(lines, nodeCrypto, norms));
    if (flags.json) console.log(JSON.stringify(spent));
    else if (spent.length === 0) console.log('no run has charged this node yet');
    else printLedgers(spent);
    return;
  }
  const log = await readFile(join(folder, 'log.jsonl')).catch((cause: unknown) => {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"folder" expected a run folder with log.jsonl, a node's folder with node.sqlite, or a ledger file, got ${folder}`,
      {},
      { cause },
    );
  });
  const spent = spentBudgets(new Uint8Array(log), nodeCrypto);
  if (flags.json) {
    console.log(JSON.stringify(spent));
    return;
  }
  const { rows, unit, relation, delta, sums, targetEpsilon, colluders } = spent;
  const byName = [...rows].sort((a, b) => a.organization.localeCompare(b.organization, 'en', { numeric: true }));
  const body = byName.map(({ organization, rounds, spent: { server, release }, remaining }) => [
    organization,
    String(rounds),
    epsilonText(server),
    epsilonText(release),
    (Math.floor(100 * remaining) / 100).toFixed(2),
  ]);
  console.log(table([['organization', 'sessions', 'server view', 'release view', 'remaining'], ...body]));
  printPaths(
    'organization',
    byName.map(({ organization, paths }) => ({ name: organization, paths })),
  );
  console.log(
    `\nepsilon of one ${unit} at delta ${deltaText(delta)}, relation ${relation}, ${colluders} colluders assumed, accountant rdp${sumsText(sums)}; budget ${targetEpsilon} (server view)`,
  );
}

export function addBudgetCommand(program: Command): void {
  const budget = program.command('budget').description('Plan privacy budgets and show what is spent');
  addPlanCommand(budget);
  budget
    .command('show')
    .description('Show what every participant of a run has spent in each view, and what is left')
    .argument(
      '<folder>',
      "run folder (bundle) with log.jsonl, folder of a node (it may be running), or a node's ledger file",
    )
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      '\nExample:\n  covey budget show runs/demo-1/bundle\n  covey budget show runs/demo-1/organizations/organization-1\n\nExit codes: 0 shown, 2 wrong usage, 4 the log does not hold (covey audit verify says where)',
    )
    .action(show);
}
