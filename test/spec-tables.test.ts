import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LABELS } from '../protocol/labels.ts';
import { LIMITS } from '../protocol/limits.ts';
import type { Vectors } from './vectors/check.ts';

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

  it('has no line above 150 characters', () => {
    expect(spec.split('\n').filter((line) => line.length > 150)).toEqual([]);
  });

  it('holds every section that the code cites', () => {
    const sections = new Set([...spec.matchAll(/^## (\d+)\. /gm)].map(([, number]) => number));
    expect([...sections]).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9']);
  });
});

const { refusals, session, sparse } = JSON.parse(
  readFileSync(new URL('vectors/covey-1.json', import.meta.url), 'utf8'),
) as Vectors;

const GROUPS: Readonly<Record<string, string>> = {
  lists: 'p1-all, p1r-all, p2-all, p4-ask, p5-ask',
  'p1 to p5': 'p1, p1r, p2, p3, p4, p5',
};
/** Rows whose frozen session cannot break them; the rule is one for both profiles. */
const STRICT_ONLY = ['organizations p2-all', 'organizations p4-ask'];

type Profile = 'strict' | 'sparse';

interface Row {
  readonly check: string;
  readonly code: string;
  readonly names: string | null;
  /** `type profile` of every vector that there must be, or any. */
  readonly of: Readonly<Record<'member' | 'coordinator', readonly string[] | 'any'>>;
}

/** Types of a cell in the profiles in which they occur. */
function expand(check: string, cell: string, profile: Profile | undefined): readonly string[] | 'any' {
  if (cell === 'any') return cell;
  const types = Object.entries(GROUPS).reduce((text, [name, all]) => text.replace(name, all), cell);
  return types
    .split(',')
    .map((type) => type.trim())
    .filter((type) => type !== '')
    .flatMap((text) => {
      const [type = '', only = profile] = text.split(/ \(|\)/);
      return (['strict', 'sparse'] as const)
        .filter((p) => (only === undefined || only === '' ? profile === undefined || p === profile : p === only))
        .filter((p) => p === 'sparse' || !type.startsWith('p1r'))
        .filter((p) => p === 'strict' || !STRICT_ONLY.includes(`${check} ${type}`))
        .map((p) => `${type} ${p}`);
    })
    .sort();
}

function checkTable(): Row[] {
  const lines = spec.split('\n');
  const start = lines.findIndex((line) => line.startsWith('| check |')) + 2;
  expect(start).toBeGreaterThan(1);
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'));
  return lines.slice(start, end).map((line) => {
    const [, name = '', , member = '', coordinator = '', outcome = ''] = line.split('|').map((cell) => cell.trim());
    const [, check = '', profile] = /^`([^`]+)`(?: \((strict|sparse)\))?$/.exec(name) ?? [];
    const [code = '', names = null] = outcome.split(', names the ');
    const of = (cell: string): Row['of']['member'] => expand(check, cell, profile as Profile | undefined);
    return { check, code, names, of: { member: of(member), coordinator: of(coordinator) } };
  });
}

/** `type profile` of the message that is refused. */
function placeOf(refusal: Vectors['refusals'][number]): string {
  const member = (refusal.session === 'strict' ? session : sparse).members[refusal.member];
  const last = refusal.messages.at(-1);
  const frozen = (refusal.by === 'member' ? member?.received : member?.sent) ?? [];
  return `${last?.type ?? frozen[last?.of ?? 0]?.type} ${refusal.session}`;
}

describe('checks and codes', () => {
  const rows = checkTable();

  it('has a row for every check of the vectors, and vectors for every row, message and profile', () => {
    expect(rows.map(({ check }) => check).sort()).toEqual([...new Set(refusals.map(({ check }) => check))].sort());
    for (const { check, of } of rows) {
      for (const by of ['member', 'coordinator'] as const) {
        const places = [...new Set(refusals.filter((r) => r.by === by && r.check === check).map(placeOf))].sort();
        if (of[by] === 'any') expect(new Set(places.map((place) => place.split(' ')[1])).size).toBe(2);
        else expect([check, by, places]).toEqual([check, by, of[by]]);
      }
    }
  });

  it('gives the code, the answer and the party of every vector', () => {
    for (const refusal of refusals) {
      const { check, by, code, accused, answer } = refusal;
      const row = rows.find((r) => r.check === check) as Row;
      expect([check, row.code.endsWith('*') ? `${code.slice(0, 6)}*` : code]).toEqual([check, row.code]);
      if (code === 'ignored') expect([accused, answer]).toEqual([[], 'nothing']);
      else if (by === 'coordinator') expect([check, accused.length]).toEqual([check, 1]);
      else {
        expect([check, accused.length]).toEqual([check, row.names === null ? 0 : 1]);
        const place = placeOf(refusal);
        const silent = place.startsWith('p0 ') || check === 'abort';
        expect([check, answer]).toEqual([check, silent ? 'nothing' : row.names === 'dealer' ? 'complaint' : 'abort']);
      }
    }
  });

  it('alters every message in its own way', () => {
    const names = refusals.map((r) => [r.session, r.by, r.check, r.altered, placeOf(r)].join());
    expect(new Set(names).size).toBe(names.length);
  });
});
