import { type Check, readText, runProgram } from './run.ts';

interface LockEntry {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface LockFile {
  readonly lockfileVersion?: number;
  readonly packages?: Readonly<Record<string, LockEntry>>;
}

/** Looks where Node would look: beside the package, then beside each package that holds it. */
function isInstalledFor(packages: NonNullable<LockFile['packages']>, path: string, name: string): boolean {
  for (let holder = path; ; holder = holder.slice(0, Math.max(0, holder.lastIndexOf('/node_modules/')))) {
    if (packages[holder === '' ? `node_modules/${name}` : `${holder}/node_modules/${name}`] !== undefined) return true;
    if (holder === '') return false;
  }
}

function checkEntries(): readonly string[] {
  const text = readText('package-lock.json');
  if (text === null) return ['package-lock.json does not exist'];
  const { lockfileVersion, packages = {} } = JSON.parse(text) as LockFile;
  const faults = lockfileVersion === 3 ? [] : [`"lockfileVersion" expected 3, got ${lockfileVersion}`];
  for (const [path, entry] of Object.entries(packages)) {
    if (path === '') continue;
    if (entry.resolved !== undefined) faults.push(`"${path}" holds the registry address ${entry.resolved}`);
    if (entry.integrity === undefined) faults.push(`"${path}" has no integrity`);
    // npm 11 refuses a lock that lacks the package of any platform, npm 10 does not notice.
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      if (!isInstalledFor(packages, path, name)) {
        faults.push(`"${path}" names the optional package ${name}, which the lock lacks`);
      }
    }
  }
  return faults;
}

const PLATFORMS: readonly (readonly [os: string, cpu: string])[] = ['linux', 'darwin', 'win32'].flatMap((os) =>
  ['x64', 'arm64'].map((cpu) => [os, cpu] as const),
);

/** npm is started through the path that it hands to its scripts, so that the same npm is asked. */
function tryInstall(os: string, cpu: string): readonly string[] {
  const args = [
    'ci',
    '--dry-run',
    '--offline',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    `--os=${os}`,
    `--cpu=${cpu}`,
  ];
  const npm = process.env['npm_execpath'];
  return npm === undefined
    ? runProgram('npm', args, { maxLines: 12 })
    : runProgram(process.execPath, [npm, ...args], { maxLines: 12 });
}

/** The lock holds no addresses and is complete on every platform. */
export const lockFileChecks: readonly Check[] = [
  { name: 'lock file', run: checkEntries },
  ...PLATFORMS.map(([os, cpu]): Check => ({ name: `npm ci on ${os} ${cpu}`, run: () => tryInstall(os, cpu) })),
];
