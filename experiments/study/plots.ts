import { join } from 'node:path';
import { writeFileAtomic } from '../../platform/node/atomic-file.ts';
import { drawingFile } from '../../src/charts/figure.ts';
import { bySettings, type Cell } from './cells.ts';
import { figuresOf } from './figures.ts';
import { studyPage } from './page.ts';

/** A file of a plotted study. */
export interface PlotFile {
  readonly name: string;
  readonly text: string;
}

/** Draws all figures and the page; the same bytes for the same cells. */
export function plotStudy(title: string, cells: readonly Cell[]): PlotFile[] {
  const sections = [...new Set(cells.map(({ scenario }) => scenario))].map((scenario) => {
    const own = cells.filter((cell) => cell.scenario === scenario).sort(bySettings);
    return { scenario, cells: own, figures: figuresOf(scenario, own) };
  });
  const drawings = sections.flatMap(({ scenario, figures }) =>
    figures.map(({ name, drawing }) => ({
      name: `${scenario.replace(/[^\w.]+/g, '-').replace(/-$/, '')}-${name}.svg`,
      text: drawingFile([drawing]),
    })),
  );
  return [{ name: 'index.html', text: studyPage(title, sections) }, ...drawings];
}

/** Writes the files of a plotted study. */
export async function writePlots(folder: string, files: readonly PlotFile[]): Promise<void> {
  for (const { name, text } of files) await writeFileAtomic(join(folder, name), text);
}
