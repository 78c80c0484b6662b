import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LABELS } from '../protocol/labels.ts';
import { LIMITS } from '../protocol/limits.ts';

const spec = readFileSync(new URL('../protocol/SPEC.md', import.meta.url), 'utf8');

/** Rows of the two-column table under a heading cell. */
function table(head: string): Record<string, string> {
  const lines = spec.split('\n');
  const start = lines.indexOf(`| name | ${head} |`) + 2;
  expect(start).toBeGreaterThan(1);
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'));
  const rows = lines.slice(start, end < 0 ? undefined : end).filter((line) => line.startsWith('|'));
  return Object.fromEntries(
    rows.map((row) => {
      const [, name = '', value = ''] = row.split('|').map((cell) => cell.trim());
      return [name, value];
    }),
  );
}

describe('SPEC.md', () => {
  it('lists every label of labels.ts and no other', () => {
    expect(table('label')).toEqual(
      Object.fromEntries(Object.entries(LABELS).map(([name, label]) => [name, `\`${label}\``])),
    );
  });

  it('lists every limit of limits.ts and no other', () => {
    const numbers = Object.fromEntries(
      Object.entries(table('value')).map(([name, value]) => [name, Number(value.replaceAll(',', ''))]),
    );
    expect(numbers).toEqual(LIMITS);
  });

  it('gives each label one purpose', () => {
    const labels = Object.values(LABELS);
    expect(new Set(labels).size).toBe(labels.length);
  });

  it('holds every section that the code cites', () => {
    const sections = new Set([...spec.matchAll(/^## (\d+)\. /gm)].map(([, number]) => number));
    expect([...sections]).toEqual(['1', '2', '3', '4', '5', '6', '7', '8']);
  });
});
