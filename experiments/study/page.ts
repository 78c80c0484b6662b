import { REPORT_STYLE } from '../../src/audit/report-style.ts';
import { escapeMarkup } from '../../src/charts/svg.ts';
import { type Axis, byEpsilon, type Cell, describeSettings, epsilonOf, measure, varyingAxes } from './cells.ts';
import type { Figure } from './figures.ts';
import type { Estimate } from './interval.ts';
import { measureLeakage } from './leakage.ts';

/** The figures and cells of one scenario. */
export interface PageSection {
  readonly scenario: string;
  readonly cells: readonly Cell[];
  readonly figures: readonly Figure[];
}

const esc = escapeMarkup;
const percent = (share: number): string => (100 * share).toFixed(1);

function estimateText(value: Estimate | null): string {
  if (value === null) return '–';
  return value.halfWidth === null ? percent(value.mean) : `${percent(value.mean)} ± ${percent(value.halfWidth)}`;
}

/** Up, so that a printed epsilon never promises more than the exact one. */
function epsilonText(epsilon: number): string {
  return Number.isFinite(epsilon) ? (Math.ceil(1e3 * epsilon - 1e-6) / 1e3).toFixed(3) : 'no claim';
}

function table(head: readonly string[], rows: readonly (readonly string[])[], texts: number): string {
  const cell = (tag: string, content: string, i: number): string =>
    `<${tag}${i >= texts ? ' class="n"' : ''}>${esc(content)}</${tag}>`;
  const line = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((content, i) => cell(tag, content, i)).join('')}</tr>`;
  return `<table><thead>${line('th', head)}</thead><tbody>${rows.map((row) => line('td', row)).join('')}</tbody></table>`;
}

const ALL_AXES: readonly Axis[] = [
  'unit',
  'delta',
  'rounds',
  'clip',
  'step',
  'sampling',
  'cohort',
  'dropouts',
  'colluders',
  'mode',
  'slots',
];

function cellTable({ cells }: PageSection): string {
  const axes = varyingAxes(cells).filter((axis) => axis !== 'algorithm');
  const sorted = cells.toSorted(byEpsilon);
  const rows = sorted.map((cell) => [
    cell.settings.algorithm,
    ...axes.map((axis) => cell.settings[axis] ?? '–'),
    String(cell.runs.length),
    epsilonText(epsilonOf(cell, 'server')),
    epsilonText(epsilonOf(cell, 'release')),
    estimateText(measure(cell, 'mean')),
    estimateText(measure(cell, 'worst')),
    estimateText(measure(cell, 'released')),
  ]);
  return table(
    ['algorithm', ...axes, 'seeds', 'ε server', 'ε release', 'mean', 'worst 10 %', 'released'],
    rows,
    1 + axes.length,
  );
}

function leakageTable({ cells }: PageSection): string {
  const known = cells.filter(({ runs }) => runs.every(({ slots }) => (slots?.byGroup ?? null) !== null));
  if (known.length === 0) return '';
  const axes = varyingAxes(known);
  const rows = known.flatMap((cell) =>
    cell.runs.flatMap(({ seed, slots }) => {
      if (!slots?.byGroup) return [];
      const leak = measureLeakage(slots.byGroup);
      return [
        [
          describeSettings(cell, axes) || cell.settings.algorithm,
          String(seed),
          epsilonText(epsilonOf(cell, 'server')),
          percent(leak.majority),
          percent(leak.inference),
          percent(leak.leaveOneOut),
          percent(leak.chance),
          leak.pValue.toFixed(3),
          `${leak.bits.toFixed(3)} of ${leak.entropy.toFixed(3)}`,
        ],
      ];
    }),
  );
  const head = ['cells', 'seed', 'ε server', 'majority', 'by cluster', 'leave one out', 'by chance', 'p', 'bits'];
  return `<h3>What memberships tell</h3>${table(head, rows, 1)}<p class="soft">Right guesses of the members' group in percent: the commonest group for everybody; the commonest of each cluster; the same without the victim's own answer; the second with memberships drawn at random (999 draws, p: share that does as well).</p>`;
}

function sectionText(section: PageSection): string {
  const { cells, figures, scenario } = section;
  const fixed = ALL_AXES.filter((axis) => !varyingAxes(cells).includes(axis));
  const federated = cells.find(({ settings }) => settings.algorithm !== 'local') ?? (cells[0] as Cell);
  const splits = [
    ...new Set(cells.flatMap(({ runs }) => runs.map(({ seed, split }) => `${seed}: ${split.slice(0, 12)}`))),
  ];
  return `<h2>${esc(scenario)}</h2><p class="meta">${esc(describeSettings(federated, fixed))}. Splits by seed: ${esc(splits.join(', '))}</p>${figures
    .map(
      ({ drawing, caption }) =>
        `<figure>${drawing.svg}<figcaption><b>${esc(drawing.title)}.</b> ${esc(caption)}</figcaption></figure>`,
    )
    .join('')}<h3>All cells</h3>${cellTable(section)}${leakageTable(section)}`;
}

/** One page with everything in it: no scripts, nothing to load, the same bytes for the same results. */
export function studyPage(title: string, sections: readonly PageSection[]): string {
  const runs = sections.reduce((sum, { cells }) => sum + cells.reduce((n, cell) => n + cell.runs.length, 0), 0);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${esc(title)}</title><style>${REPORT_STYLE}svg text{font-family:inherit}main{max-width:900px}</style></head><body><main>
<header><h1>${esc(title)}</h1><div class="meta">${runs} runs in one process by seed: simulations, whose noise anybody can repeat</div></header>
<p>Every run went through the encoding, noise, ledger and decoding of a deployment, summed by the ideal aggregator, which releases the same bits as the real protocol. ε is what the ledger charges (RDP), in the view of the server and of whoever gets the models. Accuracies in percent over the participants' own test records, of the last round; ± is the 95 % confidence interval of the mean over seeds. Choosing the best of many cells by these numbers reads the test records again: <code>covey experiment recommend</code> says what a search costs.</p>
${sections.map(sectionText).join('\n')}
</main></body></html>
`;
}
