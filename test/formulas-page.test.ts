import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

/* Every formula and section that a comment cites as `privacy ...` is an entry of docs/formulas.md. */

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs', 'formulas.md'), 'utf8');
const entries = new Set([...page.matchAll(/^\| ([\dF.]+) \|/gm)].map(([, name = '']) => name));
const FOLDERS = ['protocol', 'src', 'clients', 'server', 'platform', 'experiments', 'cli', 'test'];

const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => join(folder, path)),
);

/** `privacy F13, 3.4` and `privacy sections 1, 3.9` name two entries each. */
function citedIn(text: string): string[] {
  const lists = [...text.matchAll(/\bprivacy (?:sections? )?((?:F\d+|\d(?:\.\d)?)(?:, (?:F\d+|\d\.\d))*)\b/g)];
  return lists.flatMap(([, list = '']) => list.split(', '));
}

describe('docs/formulas.md', () => {
  it('has every entry that a comment cites', () => {
    const cited = sources.flatMap((path) =>
      citedIn(readFileSync(join(root, path), 'utf8')).map((entry) => `${entry} in ${path}`),
    );
    expect(cited.length).toBeGreaterThan(100);
    expect(cited.filter((citation) => !entries.has(citation.split(' ')[0] ?? ''))).toEqual([]);
  });
});
