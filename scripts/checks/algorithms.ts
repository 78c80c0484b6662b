import { CLUSTER_MODES, combinationsOf, refusalOf, UNITS } from '../../experiments/combinations.ts';
import type { AlgorithmInfo, OptionInfo } from '../../src/learning/algorithm.ts';
import { ALGORITHMS } from '../../src/learning/registry.ts';
import { type Check, readText } from './run.ts';

/** Where the tables of the registry are printed. */
export const ALGORITHMS_PAGE = 'docs/algorithms.md';

const RECORD_LEVELS: Readonly<Record<AlgorithmInfo['recordLevel']['kind'], string>> = {
  'as-is': 'yes',
  'with-charge': 'with a charge',
  'local-noise-only': 'no',
};

const SLOTS = {
  none: 'none',
  chosen: 'one, chosen',
  evolving: 'one, chosen, their number evolves',
  several: 'several',
  soft: 'all, by weights',
} as const;

const sensitivityOf = (info: AlgorithmInfo): string =>
  info
    .participantSensitivity(1)
    .map(({ what, l2 }) => `${what}: ${l2 === 1 && !what.includes('count') ? 'C' : Number(l2.toPrecision(4))}`)
    .join('; ');

const optionOf = (name: string, { what, least, most, fallback }: OptionInfo): string =>
  `\`${name}\` ${fallback} (${least} to ${most}): ${what}`;

/** One row for every algorithm, as the registry has it. */
export function algorithmTable(): string {
  const head = ['id', 'source', 'shared', 'stays local', 'moves the sum by', 'slots', 'unit record', 'options'];
  const rows = ALGORITHMS.map(({ info }) =>
    [
      `\`${info.id}\` ${info.title}`,
      info.source,
      info.shared,
      info.local,
      sensitivityOf(info),
      info.slots === undefined ? 'any' : SLOTS[info.slots],
      `${RECORD_LEVELS[info.recordLevel.kind]}: ${info.recordLevel.reason}`,
      Object.entries(info.options ?? {})
        .map(([name, option]) => optionOf(name, option))
        .join('; ') || '-',
    ].join(' | '),
  );
  return [head.join(' | '), head.map(() => '---').join('|'), ...rows].map((row) => `| ${row} |`).join('\n');
}

/** A refusal without what only its own combination says. */
const reasonOf = (message: string, id: string): string =>
  message.replace(`got ${id}`, 'got this one').replace(`for ${id}`, 'for it').replaceAll('|', '/');

/** Which algorithm runs with which slots at which unit, and why not; a personal part goes with each that runs. */
export function combinationTable(): string {
  const notes: string[] = [];
  const cellOf = (refusal: string | null, id: string): string => {
    if (refusal === null) return 'runs';
    const reason = reasonOf(refusal, id);
    if (!notes.includes(reason)) notes.push(reason);
    return `no (${notes.indexOf(reason) + 1})`;
  };
  const columns = UNITS.flatMap((unit) => CLUSTER_MODES.map((clusters) => ({ unit, clusters })));
  const head = ['id', ...columns.map(({ unit, clusters }) => `${unit}: ${clusters}`)];
  const rows = ALGORITHMS.map((algorithm) => [
    `\`${algorithm.info.id}\``,
    ...columns.map(({ unit, clusters }) => {
      const both = combinationsOf(algorithm).filter((c) => c.unit === unit && c.clusters === clusters);
      const cells = new Set(both.map((combination) => cellOf(refusalOf(combination), algorithm.info.id)));
      return [...cells].join(' / ');
    }),
  ]);
  const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
  const why = ['| refused because |', '|---|', ...notes.map((reason, i) => `| (${i + 1}) ${reason} |`)].join('\n');
  return `${table}\n\n${why}`;
}

function checkAlgorithms(): readonly string[] {
  const rows = (readText(ALGORITHMS_PAGE) ?? '').split('\n').filter((line) => line.startsWith('|'));
  const expected = [algorithmTable(), combinationTable()].flatMap((text) =>
    text.split('\n').filter((line) => line.startsWith('|')),
  );
  const faults = [
    ...expected.filter((row) => !rows.includes(row)).map((row) => `missing row: ${row}`),
    ...rows.filter((row) => !expected.includes(row)).map((row) => `row that the registry does not hold: ${row}`),
  ];
  return faults.length === 0 ? [] : [...faults, 'write it anew with: npm run docs:algorithms'];
}

export const algorithmChecks: readonly Check[] = [
  { name: 'algorithm registry = docs/algorithms.md', run: checkAlgorithms },
];
