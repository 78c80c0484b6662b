import type { AlgorithmInfo, OptionInfo } from '../../src/learning/algorithm.ts';
import { ALGORITHMS } from '../../src/learning/registry.ts';
import { type Check, readText } from './run.ts';

/** Where the tables of the registry are printed. */
export const ALGORITHMS_PAGE = 'docs/algorithms.md';

const UNITS: Readonly<Record<AlgorithmInfo['recordLevel']['kind'], string>> = {
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
      `${UNITS[info.recordLevel.kind]}: ${info.recordLevel.reason}`,
      Object.entries(info.options ?? {})
        .map(([name, option]) => optionOf(name, option))
        .join('; ') || '-',
    ].join(' | '),
  );
  return [head.join(' | '), head.map(() => '---').join('|'), ...rows].map((row) => `| ${row} |`).join('\n');
}

function checkAlgorithms(): readonly string[] {
  const rows = (readText(ALGORITHMS_PAGE) ?? '').split('\n').filter((line) => line.startsWith('|'));
  const expected = algorithmTable().split('\n');
  const faults = [
    ...expected.filter((row) => !rows.includes(row)).map((row) => `missing row: ${row}`),
    ...rows.filter((row) => !expected.includes(row)).map((row) => `row that the registry does not hold: ${row}`),
  ];
  return faults.length === 0 ? [] : [...faults, 'write it anew with: npm run docs:algorithms'];
}

export const algorithmChecks: readonly Check[] = [
  { name: 'algorithm registry = docs/algorithms.md', run: checkAlgorithms },
];
