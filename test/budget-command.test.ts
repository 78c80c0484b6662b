import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { addBudgetCommand } from '../cli/budget.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { budgetOfRun } from '../src/budget/run-budget.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { BUILT_COMMAND } from './support/built-command.ts';

/* `covey budget plan` as its users meet it: what they type, and what is printed. */

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'covey-plan-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => {
  process.exitCode = undefined;
});

/** Runs the command in this process. */
async function plan(
  line: string,
): Promise<{ readonly text: string; readonly exitCode: number; readonly code: string }> {
  const printed: string[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(text ?? ''));
  const program = new Command('covey').exitOverride().configureOutput({ writeErr: () => undefined });
  addBudgetCommand(program);
  for (const command of program.commands.flatMap((parent) => [parent, ...parent.commands])) command.exitOverride();
  let code = '';
  try {
    await program.parseAsync(['budget', 'plan', ...line.split(' ').filter((word) => word !== '')], { from: 'user' });
  } catch (error) {
    if (!isCoveyError(error)) throw error;
    code = error.code;
    printed.push(error.message);
  } finally {
    log.mockRestore();
  }
  const exitCode = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  return { text: printed.join('\n'), exitCode, code };
}

interface Plan {
  readonly solved: string;
  readonly noiseMultiplier: number;
  readonly rounds: number;
  readonly sampling: number;
  readonly server: number;
  readonly problem: { readonly participants: number; readonly assumed: readonly string[] };
  readonly warnings: readonly { readonly name: string; readonly severity: string }[];
}

async function planned(line: string): Promise<Plan> {
  const { text } = await plan(`${line} --json`);
  return JSON.parse(text) as Plan;
}

/** Epsilon of sampled Gaussian sums by the binomial sum at integer orders and the conversion of CKS 2020, written out. */
function independentEpsilon(z: number, rounds: number, q: number, delta: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let order = 2; order <= 400; order++) {
    const terms: number[] = [];
    let logBinomial = 0;
    for (let k = 0; k <= order; k++) {
      if (k > 0) logBinomial += Math.log((order - k + 1) / k);
      const logRest = q === 1 ? (k === order ? 0 : Number.NEGATIVE_INFINITY) : (order - k) * Math.log1p(-q);
      terms.push(logBinomial + logRest + k * Math.log(q) + (k * (k - 1)) / (2 * z * z));
    }
    const high = Math.max(...terms);
    const logMoment = high + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - high), 0));
    const divergence = (rounds * logMoment) / (order - 1);
    least = Math.min(least, divergence + Math.log1p(-1 / order) - Math.log(delta * order) / (order - 1));
  }
  return least;
}

const CLEAN = '--tuning-runs 0 --population 10000';

/* Every pair of the five quantities; the rest is solved, or assumed and said. */
const PAIRS: readonly (readonly [line: string, solved: string, assumed: readonly string[]])[] = [
  ['--epsilon 3 --noise-multiplier 6', 'rounds', ['participants', 'sampling']],
  ['--epsilon 3 --rounds 40', 'noiseMultiplier', ['participants', 'sampling']],
  ['--epsilon 3 --participants 30', 'noiseMultiplier', ['rounds', 'sampling']],
  ['--epsilon 3 --sampling 0.05', 'noiseMultiplier', ['rounds', 'participants']],
  ['--noise-multiplier 6 --rounds 40', 'epsilon', ['participants', 'sampling']],
  ['--noise-multiplier 6 --participants 30', 'epsilon', ['rounds', 'sampling']],
  ['--noise-multiplier 0.8 --sampling 0.01', 'epsilon', ['rounds', 'participants']],
  ['--rounds 2 --participants 30', 'epsilon', ['noiseMultiplier', 'sampling']],
  ['--rounds 500 --sampling 0.01', 'epsilon', ['noiseMultiplier', 'participants']],
  ['--participants 30 --sampling 0.01', 'epsilon', ['noiseMultiplier', 'rounds']],
];

describe('from any two quantities the rest', () => {
  it.each(PAIRS)('%s solves %s', async (line, solved, assumed) => {
    const found = await planned(`${line} ${CLEAN}`);
    expect(found.solved).toBe(solved);
    expect(found.problem.assumed).toEqual(assumed);
    const { noiseMultiplier, rounds, sampling, server } = found;
    const { participants } = found.problem;
    const standIns = { noiseMultiplier: 1, rounds: 100, participants: 12, sampling: 1 };
    const values = { noiseMultiplier, rounds, participants, sampling };
    for (const key of assumed as (keyof typeof standIns)[]) expect([key, values[key]]).toEqual([key, standIns[key]]);
    // The discrete sum costs what plain Gaussian noise costs; integer orders alone may lose a little.
    const independent = independentEpsilon(noiseMultiplier, rounds, sampling, 1e-5);
    expect(server).toBeLessThanOrEqual(independent * (1 + 1e-6));
    expect(server).toBeGreaterThan(independent * 0.98);
    // Planned again with what was solved: the same epsilon, or the target.
    const again = await planned(
      `--noise-multiplier ${noiseMultiplier} --rounds ${rounds} --sampling ${sampling} --participants ${participants} ${CLEAN}`,
    );
    expect(again.server / server).toBeCloseTo(1, 9);
    if (solved === 'epsilon') return;
    expect(server).toBeLessThanOrEqual(3);
    const more = await planned(
      `--noise-multiplier ${noiseMultiplier} --rounds ${rounds + 1} --sampling ${sampling} ${CLEAN}`,
    );
    expect(more.server).toBeGreaterThan(3);
  });

  it('solves the sampling rate if epsilon, noise and rounds are all given', async () => {
    const found = await planned(`--epsilon 3 --noise-multiplier 1 --rounds 200 ${CLEAN}`);
    expect(found.solved).toBe('sampling');
    expect(found.problem.assumed).toEqual(['participants']);
    expect(found.server).toBeLessThanOrEqual(3);
    expect(found.server).toBeGreaterThan(2.999);
    const { sampling } = found;
    expect(independentEpsilon(1, 200, sampling, 1e-5)).toBeGreaterThan(2.999);
  });

  it('solves the cohort for a noise on the mean', async () => {
    const found = await planned('--epsilon 8 --rounds 50 --unit participant --mean-noise 0.1 --tuning-runs 0');
    expect(found.problem.participants).toBeGreaterThan(30);
    expect(found.problem.assumed).toEqual(['sampling']);
  });

  it.each([
    [
      '--epsilon 3 --rounds 77 --sampling 0.03',
      /^noise multiplier: (\S+)/,
      '--noise-multiplier',
      '--rounds 77 --sampling 0.03',
    ],
    [
      '--epsilon 3 --rounds 77 --noise-multiplier 0.9',
      /^largest record sampling rate: (\S+)/,
      '--sampling',
      '--rounds 77 --noise-multiplier 0.9',
    ],
    [
      '--epsilon 3 --noise-multiplier 0.9 --sampling 0.03',
      /^rounds: (\S+)/,
      '--rounds',
      '--noise-multiplier 0.9 --sampling 0.03',
    ],
  ])('prints an answer to %s that keeps the target when it is typed in', async (line, answer, flag, rest) => {
    const { text } = await plan(`${line} ${CLEAN}`);
    const [, value] = answer.exec(text) ?? [];
    const { server } = await planned(`${flag} ${value} ${rest} ${CLEAN}`);
    expect(server).toBeLessThanOrEqual(3);
    expect(server).toBeGreaterThan(2.9);
  });

  it('says in print what was assumed', async () => {
    expect((await plan(`--noise-multiplier 6 --participants 30 ${CLEAN}`)).text).toContain(
      'assumed, as not given: rounds 100, record sampling rate 1',
    );
    expect((await plan(`--epsilon 3 --rounds 9 --participants 30 --sampling 1 ${CLEAN}`)).text).not.toContain(
      'assumed, as',
    );
  });
});

const RECORDS = `--epsilon 4 --rounds 10 ${CLEAN}`;
const MEMBERS = '--epsilon 4 --rounds 10 --tuning-runs 0 --unit participant';

/* Each mistake, and the nearest line that does not make it. */
const MISTAKES: readonly (readonly [name: string, severity: string, mistaken: string, right: string])[] = [
  ['sampling-against-server', 'caution', `${RECORDS} --cohort-sampling 0.1`, `${RECORDS} --cohort-sampling 1`],
  ['delta-above-1/n', 'caution', `${RECORDS} --delta 0.000101`, `${RECORDS} --delta 0.0001`],
  [
    'delta-above-1/n',
    'caution',
    `${MEMBERS} --participants 40 --delta 0.03`,
    `${MEMBERS} --participants 40 --delta 0.02`,
  ],
  ['participant-noise-few-participants', 'caution', `${MEMBERS} --participants 10`, `${MEMBERS} --participants 300`],
  ['record-claim-participant-clipping', 'void', `${RECORDS} --clipping participant`, `${RECORDS} --clipping record`],
  ['record-claim-raw-head', 'void', `${RECORDS} --head raw`, `${RECORDS} --head released`],
  ['record-claim-local-epochs', 'void', `${RECORDS} --local-epochs 2`, `${RECORDS} --local-epochs 1`],
  [
    'record-claim-raw-standardization',
    'void',
    `${RECORDS} --standardization raw`,
    `${RECORDS} --standardization protected`,
  ],
  ['tuning-left-out', 'caution', '--epsilon 4 --rounds 10 --population 10000', RECORDS],
  ['rows-per-person', 'caution', `${RECORDS} --rows-per-person 2`, `${RECORDS} --rows-per-person 1`],
  ['shuffled-batches', 'caution', `${RECORDS} --sampling 0.1 --batches shuffled`, `${RECORDS} --sampling 0.1`],
];

describe('a classical mistake', () => {
  it.each(MISTAKES)('%s is named (%s): %s', async (name, severity, mistaken, right) => {
    const warned = await plan(mistaken);
    const label = severity === 'void' ? 'NO CLAIM' : 'caution';
    // A list, with nothing else in it.
    expect(warned.text.slice(warned.text.indexOf('\nWarnings\n')).trimEnd().split('\n').slice(2)).toEqual([
      expect.stringMatching(new RegExp(`^  ${label}  ${name}: .`)),
    ]);
    expect(warned.text.startsWith('NO CLAIM')).toBe(severity === 'void');
    expect(warned.exitCode).toBe(severity === 'void' ? 3 : 0);
    const asJson = await plan(`${mistaken} --json`);
    expect(asJson.exitCode).toBe(warned.exitCode);
    expect((JSON.parse(asJson.text) as Plan).warnings).toEqual([{ name, severity, text: expect.any(String) }]);
    const silent = await plan(right);
    expect([silent.text.includes('Warnings'), silent.text.includes(name), silent.exitCode]).toEqual([false, false, 0]);
    expect((await planned(right)).warnings).toEqual([]);
  });

  it.each(['--clipping participant', '--head raw', '--local-epochs 5', '--standardization raw'])(
    'against records is none at unit participant: %s',
    async (flag) => {
      expect((await planned(`${MEMBERS} --participants 300 ${flag}`)).warnings).toEqual([]);
    },
  );

  it('costs what its warning says: tuning runs and shuffled batches', async () => {
    const { server } = await planned('--noise-multiplier 2 --rounds 30 --sampling 0.1 --tuning-runs 0');
    const tuned = await planned('--noise-multiplier 2 --rounds 10 --sampling 0.1 --tuning-runs 2');
    expect(tuned.server).toBe(server);
    const shuffled = await planned('--noise-multiplier 2 --rounds 30 --sampling 0.1 --batches shuffled');
    expect(shuffled.sampling).toBe(1);
    expect(shuffled.server).toBeGreaterThan(5 * server);
  });

  it('is listed with all others, those that void the claim first', async () => {
    const { text } = await plan('--epsilon 4 --rounds 10 --cohort-sampling 0.5 --head raw --local-epochs 3');
    const labels = [...text.matchAll(/^ {2}(NO CLAIM|caution) {2}\S+:/gm)].map(([, label]) => label);
    expect(labels).toEqual(['NO CLAIM', 'NO CLAIM', 'caution', 'caution']);
  });
});

describe('what cannot be planned', () => {
  it.each([
    ['', 'USAGE_CONFIG', '"sampling" expected two of them, got none'],
    ['--epsilon 3', 'USAGE_CONFIG', 'got "epsilon" only'],
    [
      '--epsilon 3 --noise-multiplier 1 --rounds 9 --sampling 0.1',
      'USAGE_CONFIG',
      '"sampling" expected to be left out',
    ],
    [
      '--epsilon 3 --noise-multiplier 1 --rounds 9 --batches shuffled',
      'USAGE_CONFIG',
      '"practice.batches" expected poisson',
    ],
    ['--epsilon 3 --noise-multiplier 1 --rounds 9 --unit participant', 'USAGE_CONFIG', 'at unit participant, got 3'],
    ['--epsilon 3 --rounds 9 --unit participant --sampling 0.1', 'USAGE_CONFIG', '"sampling" (of records) expected 1'],
    [
      '--epsilon 3 --rounds 9 --unit participant --participants 50 --population 40',
      'USAGE_CONFIG',
      '"population" expected at least 50',
    ],
    [
      '--epsilon 3 --rounds 9 --unit participant --participants 50 --mean-noise 0.1',
      'USAGE_CONFIG',
      '"meanNoise" expected unit participant',
    ],
    ['--epsilon 3 --rounds 9 --unit persons', 'USAGE_CONFIG', '"unit" expected one of "record", "participant"'],
    ['--epsilon 3 --rounds 9 --participants 5 --min-survivors 6', 'USAGE_CONFIG', '"minSurvivors" expected at most 5'],
    ['--epsilon 3 --rounds 9 --colluders 9', 'USAGE_CONFIG', '"colluders" expected fewer than 9'],
    ['--epsilon 3 --rounds 9 --xnoise', 'USAGE_CONFIG', '"xnoise" expected "mechanism" skellam'],
    ['--epsilon 3 --rounds 9 --delta 1', 'USAGE_CONFIG', '"delta" expected number > 0 and < 1'],
    ['--epsilon 3 --noise-multiplier 9 --participation-cap 2', 'USAGE_CONFIG', 'any number of rounds fits'],
    [
      '--epsilon 0.01 --noise-multiplier 0.5',
      'PRIVACY_BUDGET',
      '"epsilon" expected a target that one round can meet, got 0.01',
    ],
    [
      '--epsilon 0.000001 --noise-multiplier 0.001 --rounds 1000',
      'PRIVACY_BUDGET',
      '"epsilon" expected a target that any sampling rate can meet',
    ],
    ['--noise-multiplier 0.000001 --rounds 5', 'PRIVACY_NOISE', 'expected a local deviation >= 1.5'],
  ])('%s is refused with %s', async (line, code, message) => {
    const refused = await plan(line);
    expect(refused.code).toBe(code);
    expect(refused.text).toContain(message);
    expect(refused.text.split('\n')).toHaveLength(1);
  });

  const run = promisify(execFile);
  it.each([
    ['--epsilon 3', 2, /^covey: [^\n]*USAGE_CONFIG\]\n$/],
    ['--epsilon nothing --rounds 3', 2, /^covey: option '--epsilon <x>' argument 'nothing' is invalid[^\n]*\n.*Hint/],
    ['--epsilon 0.01 --noise-multiplier 0.5', 3, /^covey: [^\n]*PRIVACY_BUDGET\]\n$/],
    ['--epsilon 4 --rounds 10 --head raw', 3, /^$/],
  ])('ends the process of %s with %i and one line', async (line, exitCode, stderr) => {
    const ended = await run(process.execPath, [BUILT_COMMAND, 'budget', 'plan', ...line.split(' ')]).catch(
      (error: unknown) => error as { code: number; stdout: string; stderr: string },
    );
    expect(ended).toMatchObject({ code: exitCode, stderr: expect.stringMatching(stderr) });
  });
});

describe('the plan of a run', () => {
  const YAML = 'federation: none.json\nkey: k\nstate: s\nrun: { scenario: digits, steps: 6, terms: float-bounded }\n';
  const file = async (text = YAML): Promise<string> => {
    const path = join(folder, 'covey.yaml');
    await writeFile(path, text);
    return path;
  };

  it('reads what a coordinator reads', async () => {
    const { text } = await plan(`--run ${await file()} --participants 12 --json`);
    const options = { seed: 1, steps: 6, targetEpsilon: 8, participants: 12, terms: 'float-bounded' } as const;
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(budgetOfRun(scenarioConfig('digits', options)))));
    const whole = { ...scenarioConfig('digits', { ...options, participants: 9 }) };
    const config = YAML.replace(/run: .*/, `run: { config: ${JSON.stringify(whole)} }`);
    const own = JSON.parse((await plan(`--run ${await file(config)} --json`)).text) as { participants: number };
    expect(own.participants).toBe(9);
    expect((await plan(`--run ${await file()} --participants 12`)).text).toMatch(/float-bounded terms: 0\.\d+ % above/);
  });

  it.each([
    ['', '"federation" expected a readable file'],
    ['--participants 12 --epsilon 3', '"--epsilon" expected none beside --run'],
    ['--participants 12 --xnoise', '"--xnoise" expected none beside --run'],
  ])('refuses %j in one line', async (line, message) => {
    const refused = await plan(`--run ${await file()} ${line}`);
    expect([refused.code, refused.text.split('\n').length]).toEqual(['USAGE_CONFIG', 1]);
    expect(refused.text).toContain(message);
  });
});

describe('what a plan is told and tells', () => {
  it.each([
    ['', '65536 integer units (clip 1 x scale 65536), integer terms: rounding adds nothing'],
    ['--terms float-bounded', '0.2 % over 16384 coordinates (10000 parameters, assumed)'],
    ['--terms float-bounded --parameters 99', '(99 parameters as one block); a run pads each of its blocks: at most'],
    ['--terms float-bounded --dimension 4096 --scale 1024', 'rounding adds 6.3 % over 4096 coordinates\n'],
    ['--unit participant --participants 300 --dimension 4096', 'updates rounded at random: rounding adds'],
  ])('says what rounding adds to the sensitivity: %j', async (line, text) => {
    expect((await plan(`--epsilon 4 --rounds 10 --tuning-runs 0 ${line}`)).text).toContain(text);
  });

  it('has a schema that scripts can rely on', async () => {
    const found = (await planned(`${RECORDS} --config ${await configFile('colluders: 1\n')}`)) as unknown as Record<
      string,
      Record<string, unknown>
    >;
    expect(Object.keys(found)).toEqual([
      ...['problem', 'solved', 'noiseMultiplier', 'rounds', 'sampling', 'relation', 'sensitivity', 'shareVariance'],
      ...['headline', 'server', 'release', 'planning', 'person', 'tables', 'warnings'],
    ]);
    expect(Object.keys(found['headline'] ?? {})).toEqual(['accountant', 'labels', 'server', 'release']);
    expect(Object.keys(found['tables'] ?? {})).toEqual(['dropouts', 'colluders', 'participation']);
    for (const rows of Object.values(found['tables'] ?? {}) as Record<string, number>[][])
      for (const row of rows) expect(Object.keys(row)).toEqual(['value', 'server', 'release']);
    expect(found['problem']).toMatchObject({ epsilon: 4, rounds: 10, colluders: 1, participants: 12, minSurvivors: 9 });
  });

  const configFile = async (text: string): Promise<string> => {
    const path = join(folder, 'plan.yaml');
    await writeFile(path, text);
    return path;
  };

  it('takes the same fields from a file, which flags override', async () => {
    const path = await configFile('epsilon: 4\nrounds: 10\npractice: { tuningRuns: 0, head: raw }\n');
    expect(await planned(`--config ${path} --population 10000 --head none`)).toEqual(
      await planned(`${RECORDS} --head none`),
    );
    const refused = await plan(`--config ${await configFile('epsilon: 4\nrounds: 10\nnoise: 3\n')}`);
    expect([refused.code, refused.text.split('\n').length]).toEqual(['USAGE_CONFIG', 1]);
    expect(refused.text).toContain('"noise" is not a known key');
  });

  it('protects whole participants with all rows they hold', async () => {
    const one = (await planned(`${MEMBERS} --participants 300`)) as unknown as { person: number };
    const rows = (await planned(`${MEMBERS} --participants 300 --rows-per-person 7`)) as unknown as { person: number };
    expect(rows.person).toBe(one.person);
  });

  it('draws charges of both views, from the first round on', async () => {
    const path = join(folder, 'plan.svg');
    await plan(`${MEMBERS} --participants 300 --rounds 1000 --participation-cap 10 --svg ${path}`);
    const svg = await readFile(path, 'utf8');
    expect(svg).toContain('Epsilon charged to one participant over rounds (delta 1e-5)');
    expect(svg.match(/server view/g)).toHaveLength(2);
    // At the cap the curve of the server is flat: its bend is drawn there, 1 % of the way.
    const [, points = ''] = /<path d="([^"]*)"/.exec(svg) ?? [];
    const ys = points
      .split(/[ML]/)
      .slice(1)
      .map((point) => Number(point.split(' ')[1]));
    const flat = ys.indexOf(Math.min(...ys));
    const xs = points
      .split(/[ML]/)
      .slice(1)
      .map((point) => Number(point.split(' ')[0]));
    expect(((xs[flat] ?? 0) - (xs[0] ?? 0)) / ((xs.at(-1) ?? 0) - (xs[0] ?? 0))).toBeCloseTo(0.01, 3);
  });
});
