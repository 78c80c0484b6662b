import { type Check, listFiles, readText } from './run.ts';

interface Ban {
  readonly pattern: RegExp;
  readonly why: string;
  /** Folders or files, as prefixes, in which it is looked for; all sources if empty. */
  readonly within: readonly string[];
  /** Files in which it has its home. */
  readonly homes: readonly string[];
}

const PORTABLE = ['protocol/', 'src/'];
const PRODUCT = ['protocol/', 'src/', 'platform/', 'clients/', 'server/', 'experiments/', 'cli/'];

const BANS: readonly Ban[] = [
  { pattern: /\bMath\.random\b/, why: 'randomness is an argument', within: [], homes: [] },
  {
    pattern: /\bDate\.now\b|\bnew Date\(\)/,
    why: 'the wall clock has one home',
    within: PRODUCT,
    homes: ['platform/node/clock.ts'],
  },
  { pattern: /\bBuffer\b/, why: 'protocol and src are platform neutral', within: PORTABLE, homes: [] },
  {
    pattern: /\b(process|globalThis|window)\.|\bperformance\.now\b|\bset(Timeout|Interval|Immediate)\(/,
    why: 'protocol and src are platform neutral',
    within: PORTABLE,
    homes: [],
  },
  {
    pattern: /\bconsole\./,
    why: 'only the command line prints',
    within: ['protocol/', 'src/', 'platform/', 'clients/', 'server/', 'experiments/'],
    homes: [],
  },
  {
    pattern: /\b(TODO|FIXME|XXX|HACK)\b/,
    why: 'unfinished work is named in an issue, never in the code',
    within: [],
    homes: [],
  },
  { pattern: /\b(it|describe|test)\.(only|todo|fails)\b/, why: 'every test runs', within: ['test/'], homes: [] },
  {
    pattern: /(^|[\s'"`(=])(\/(home|root|tmp|work|Users)\/|[A-Z]:\\\\)[\w.-]/,
    why: 'a path of one machine',
    within: [],
    homes: [],
  },
];

/** Drops comments, so that a comment may name what the code must not use. Keeps the line count. */
function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|\s)\/\/.*$/gm, '$1');
}

function findBanned(): readonly string[] {
  const faults: string[] = [];
  for (const path of listFiles(['.ts'])) {
    // This list itself has to spell what it looks for.
    if (path === 'scripts/checks/sources.ts') continue;
    const lines = (readText(path) ?? '').split('\n');
    const code = withoutComments(lines.join('\n')).split('\n');
    for (const { pattern, why, within, homes } of BANS) {
      if (homes.includes(path) || (within.length > 0 && !within.some((prefix) => path.startsWith(prefix)))) continue;
      const searched = why.startsWith('unfinished') || why.startsWith('a path') ? lines : code;
      searched.forEach((line, i) => {
        const found = pattern.exec(line);
        if (found !== null) faults.push(`${path}:${i + 1} ${found[0].trim()} (${why})`);
      });
    }
  }
  return faults;
}

/** Documents and settings name no machine and no unfinished work. */
function findBannedInDocuments(): readonly string[] {
  const machinePath = /(^|[\s'"`(=])\/(home|root|tmp|work|Users)\/[\w.-]/;
  return listFiles(['.md', '.yaml', '.yml', '.json', '.sh'])
    .concat('.ci/run')
    .filter((path) => path !== 'package-lock.json' && !path.startsWith('test/vectors/'))
    .flatMap((path) =>
      (readText(path) ?? '').split('\n').flatMap((line, i) => {
        const found = machinePath.exec(line) ?? /\b(TODO|FIXME)\b/.exec(line);
        return found === null ? [] : [`${path}:${i + 1} ${found[0].trim()} (a path of one machine or unfinished work)`];
      }),
    );
}

/** Words and paths that the sources may not hold outside their one home. */
export const sourceChecks: readonly Check[] = [
  { name: 'banned words in sources', run: findBanned },
  { name: 'banned words in documents', run: findBannedInDocuments },
];
