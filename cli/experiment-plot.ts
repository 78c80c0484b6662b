import { join } from 'node:path';
import type { Command } from 'commander';
import { filterCells } from '../experiments/study/cells.ts';
import { loadCells } from '../experiments/study/load.ts';
import { plotStudy, writePlots } from '../experiments/study/plots.ts';
import { pairs } from './lists.ts';

interface PlotFlags {
  readonly out?: string;
  readonly title?: string;
  readonly where: Readonly<Record<string, string>>;
  readonly json: boolean;
}

async function plot(folder: string, flags: PlotFlags): Promise<void> {
  const { cells, title } = await loadCells(folder);
  const out = flags.out ?? join(folder, 'plots');
  const files = plotStudy(flags.title ?? title ?? 'Privacy and utility', filterCells(cells, flags.where));
  await writePlots(out, files);
  const paths = files.map(({ name }) => join(out, name));
  console.log(flags.json ? JSON.stringify({ files: paths }) : paths.join('\n'));
}

/** `covey experiment plot` */
export function addPlotCommand(experiment: Command): void {
  experiment
    .command('plot')
    .description('Draw recorded runs: privacy-utility curves, fairness, heat maps, cluster sizes, leakage')
    .argument('<folder>', 'folder of results')
    .option('--out <folder>', 'folder of the page and the SVG files (default: <folder>/plots)')
    .option('--title <text>', "title of the page (default: the study's)")
    .option('--where <name=value>', 'only cells with this setting: algorithm, clip, slots, rounds, ...', pairs, {})
    .option('--json', 'print the names of the files as one JSON object', false)
    .addHelpText(
      'after',
      '\nExamples:\n  covey experiment plot runs/budget-study\n  covey experiment plot runs/sweep-heart-4 --where clip=1\n\nThe same results give the same bytes. Exit codes: 0 done, 2 wrong usage',
    )
    .action(plot);
}
