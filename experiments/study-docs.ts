import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadCells } from './study/load.ts';
import { plotStudy, writePlots } from './study/plots.ts';

/** Draws the recorded studies below `docs/study` anew; with `--check` it compares and writes nothing. */
const FOLDER = fileURLToPath(new URL('../../docs/study/', import.meta.url));

function isDrawn(path: string, text: string): boolean {
  try {
    return readFileSync(path, 'utf8') === text;
  } catch {
    return false;
  }
}

const faults: string[] = [];
for (const name of readdirSync(FOLDER).sort()) {
  const folder = join(FOLDER, name);
  const { cells, title } = await loadCells(folder);
  const files = plotStudy(title ?? name, cells);
  if (process.argv.includes('--check'))
    faults.push(
      ...files
        .filter((file) => !isDrawn(join(folder, file.name), file.text))
        .map((file) => `docs/study/${name}/${file.name} is not what its results give: npm run docs:study`),
    );
  else await writePlots(folder, files);
}
if (faults.length > 0) {
  process.stdout.write(`${faults.join('\n')}\n`);
  process.exitCode = 1;
}
