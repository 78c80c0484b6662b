import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ALGORITHMS } from '../src/learning/registry.ts';
import { type RecordedResult, readResults } from './benchmark.ts';
import { compareNoise } from './noise-comparison.ts';

/** Writes the page of the benchmark from the recorded results below `docs/benchmark`. */
const DOCS = fileURLToPath(new URL('../../docs/', import.meta.url));
const FOLDER = join(DOCS, 'benchmark');

const percent = (share: number): string => (100 * share).toFixed(1);

/** Mean over the seeds and their standard deviation, in percent. */
function overSeeds(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2) return percent(mean);
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return `${percent(mean)} ± ${percent(Math.sqrt(variance))}`;
}

const kilobytes = (bytes: number): string => (bytes === 0 ? '-' : `${(bytes / 1e3).toFixed(0)} kB`);

function rowOf(results: readonly RecordedResult[]): string {
  const first = results[0] as RecordedResult;
  const { algorithm, protection, epsilon, rounds, bytesUp, bytesDown } = first;
  const spent = (view: 'server' | 'release'): string =>
    epsilon === null ? '0' : protection === 'none' ? 'no claim' : epsilon[view].toFixed(2);
  const of = (pick: (result: RecordedResult) => number): string => overSeeds(results.map(pick));
  const cells = [
    `\`${algorithm}\``,
    of(({ personal }) => personal.weightedMean),
    of(({ personal }) => personal.mean),
    of(({ personal }) => personal.stddev),
    of(({ personal }) => personal.worstTenth),
    first.released === null ? '-' : of(({ released }) => released?.mean ?? 0),
    spent('server'),
    spent('release'),
    String(rounds),
    kilobytes(bytesUp),
    kilobytes(bytesDown),
  ];
  return `| ${cells.join(' | ')} |`;
}

const HEAD = [
  'algorithm',
  'weighted',
  'mean',
  'std',
  'worst 10 %',
  'released, mean',
  'ε server',
  'ε release',
  'rounds',
  'up',
  'down',
];

/** What the rows of a table have in common, the row that is alone without a release left out. */
function captionOf(results: readonly RecordedResult[]): string {
  const shared = results.find(({ unit }) => unit !== null) ?? (results[0] as RecordedResult);
  const { settings, perStep, colluders, unit, delta, split } = shared;
  const { batches, batchSize, clippingNorm, epochs, stepSize } = settings;
  const seeds = [...new Set(results.map(({ seed }) => seed))].join(', ');
  const minibatches =
    batches === undefined ? `${epochs} local ${epochs === 1 ? 'epoch' : 'epochs'}` : `${batches} local minibatches`;
  const local =
    unit === 'record' && settings.noise !== 'local'
      ? `one clipped gradient of every sampled record, probability ${settings.samplingProbability}${settings.terms === undefined ? '' : `, ${settings.terms} sums`}`
      : `${settings.noise === 'local' ? 'noise in every local gradient, each over a Poisson sample, ' : ''}${minibatches}, batch ${batchSize}, step ${stepSize}`;
  const lanes = settings.lanes === undefined ? '' : `, ${settings.lanes} lanes`;
  const noise = settings.noise === 'central' ? ', **central continuous noise, no deployment has it**' : lanes;
  const cohort = perStep === null ? 'everybody in every round' : `${perStep} participants a round`;
  return `Unit ${unit}, ${local}, clip ${clippingNorm}${noise}, ${cohort}, ${colluders} colluders, delta ${delta}; seeds ${seeds}; split of the first ${split.slice(0, 16)}.`;
}

/** Baselines first, then the order of the registry, whenever they were computed. */
const ROWS = ['local', 'fedavg', 'fedavg+ft', ...ALGORITHMS.map(({ info }) => info.id)];

async function sectionOf(name: string): Promise<string> {
  const results = await readResults(join(FOLDER, name));
  const place = (row: string): number => {
    const at = ROWS.indexOf(row);
    return at < 0 ? ROWS.length : at;
  };
  const algorithms = [...new Set(results.map(({ algorithm }) => algorithm))].sort((a, b) => place(a) - place(b));
  const rows = algorithms.map((algorithm) => rowOf(results.filter((result) => result.algorithm === algorithm)));
  const first = results[0] as RecordedResult;
  const table = [`| ${HEAD.join(' | ')} |`, `|${HEAD.map(() => '---').join('|')}|`, ...rows].join('\n');
  const options = Object.entries(first.scenarioOptions ?? {}).map(([option, value]) => `${option} ${value}`);
  const details = [...(name === first.scenario ? [] : [first.scenario]), ...options].join(', ');
  const title = details === '' ? name : `${name} (${details})`;
  return `## ${title}\n${captionOf(results)}\n\n${table}`;
}

/** Differences to central noise, of rows that were recorded with both. */
function noiseSection(results: readonly RecordedResult[]): string {
  const rows = compareNoise(results).map(({ algorithm, central, deployed, epsilon, lanes, scenario, terms, unit }) => {
    const differences = deployed.map((value, i) => value - (central[i] as number));
    const cells = [
      scenario,
      `\`${algorithm}\``,
      unit,
      epsilon.toFixed(2),
      `${lanes}, ${terms}`,
      String(deployed.length),
    ];
    return `| ${[...cells, ...[central, deployed, differences].map(overSeeds)].join(' | ')} |`;
  });
  const head = ['', 'algorithm', 'unit', 'ε', 'lanes, terms', 'seeds', 'central', 'deployed', 'difference'];
  return `## Integers and shared noise against central noise
Mean accuracy with a trusted curator, exact sums and continuous Gaussian noise, and with the deployment's integers, lanes and discrete
noise in shares, at the same ε (RDP, server view) on the same data, seeds and minibatches; the difference seed by seed with its
standard deviation. Lanes: 2 of 32 bits, 3 of 21, 4 of 16.

${[`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows].join('\n')}`;
}

const sections: string[] = [];
const names = readdirSync(FOLDER).sort();
for (const name of names) sections.push(await sectionOf(name));
const recorded = await Promise.all(names.map((name) => readResults(join(FOLDER, name))));
sections.push(noiseSection(recorded.flat()));
const page = `# Benchmark
Every row went through the encoding, noise, ledger and decoding of a deployment, summed by the ideal aggregator, which releases
the same bits as the real protocol. Accuracies in percent over the participants' own test records, of the last round, with the
standard deviation over seeds; weighted by test records, the mean, standard deviation and worst tenth over the participants.
"Released" is the model before any personal part; where a body alone is shared that is the body under the untrained head, no
model to use. ε is what the ledger charges (RDP). "No claim":
noise of no consequence, to see what protection costs. Settings are those of the scenario (\`experiments/settings.ts\`) and were
not tuned for single methods, so a row says how a method does there, not how well it could do.

Recorded by \`covey experiment run <scenario> --out docs/benchmark/<name>\`; this page is written from the records by
\`npm run docs:benchmark\`.

${sections.join('\n\n')}
`;
writeFileSync(join(DOCS, 'benchmark.md'), page);
