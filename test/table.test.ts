import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadTable, parseTable, tableDescriptionSchema, tableWidth } from '../clients/node/table.ts';
import { isCoveyError } from '../protocol/errors.ts';

const description = tableDescriptionSchema.parse({
  label: { column: 'sick', values: ['no', 'yes'] },
  person: 'patient',
  features: [
    { column: 'age', range: [20, 80] },
    { column: 'sex', values: ['f', 'm'] },
  ],
});
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const TABLE = `patient,sick,age,sex,note
a,no,50,f,"quoted, with a comma"
b,yes,80,m,
a,yes,?,,x
c,no,1e3,f,
`;

function messageOf(text: string, given = description): string {
  try {
    parseTable(bytes(text), given, 'site.csv');
  } catch (error) {
    if (isCoveyError(error)) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'read';
}

describe('a table of a site', () => {
  it('becomes features of declared ranges, labels and persons', () => {
    const { data, names } = parseTable(bytes(TABLE), description, 'site.csv');
    expect(tableWidth(description)).toBe(3);
    expect([...data.features]).toEqual([0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0]);
    expect([...data.labels]).toEqual([0, 1, 1, 0]);
    expect([...(data.persons ?? [])]).toEqual([0, 1, 0, 2]);
    expect(names).toEqual(['a', 'b', 'a', 'c']);
    const unnamed = parseTable(bytes(TABLE), { ...description, person: undefined }, 'site.csv');
    expect(unnamed.data.persons).toBeUndefined();
  });

  it('takes other line ends and a byte order mark', () => {
    const { data } = parseTable(bytes(`\ufeff${TABLE.replaceAll('\n', '\r\n')}`), description, 'site.csv');
    expect(data.count).toBe(4);
  });

  it.each([
    ['patient,sick,age\na,no,50\n', /"site.csv" expected one column "sex"/],
    ['patient,sick,age,sex,age\na,no,50,f,50\n', /one column "age"/],
    ['patient,sick,age,sex\na,maybe,50,f\n', /"sick" expected one of 2 classes in line 2/],
    ['patient,sick,age,sex\na,no,50,f\nb,no,young,f\n', /"age" expected a number in line 3/],
    ['patient,sick,age,sex\na,no,0x10,f\n', /"age" expected a number in line 2/],
    ['patient,sick,age,sex\na,no,50,other\n', /"sex" expected one of 2 declared values in line 2/],
    ['patient,sick,age,sex\n?,no,50,f\n', /"patient" expected whose record it is in line 2/],
    ['patient,sick,age,sex\na,no,50\n', /comma-separated values with a header/],
    ['patient,sick,age,sex\na,no,"50,f\n', /comma-separated values with a header/],
    ['', /one column/],
  ])('refuses what it cannot read, by line and column: %j', (text, message) => {
    const got = messageOf(text);
    expect(got).toMatch(/^CODEC_TYPE /);
    expect(got).toMatch(message);
    // What is in a cell stays at the site.
    for (const cell of ['maybe', 'young', '0x10', 'other']) expect(got).not.toContain(cell);
  });

  it('refuses descriptions without public ranges', () => {
    const feature = (given: object): object => ({ ...description, features: [{ column: 'age', ...given }] });
    expect(tableDescriptionSchema.safeParse(feature({ range: [80, 20] })).success).toBe(false);
    expect(tableDescriptionSchema.safeParse(feature({})).success).toBe(false);
    expect(tableDescriptionSchema.safeParse({ ...description, features: [] }).success).toBe(false);
  });
});

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

describe('the held-out records', () => {
  it('are those of whole persons, and the same for the same persons', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-table-'));
    folders.push(folder);
    const rows = Array.from(
      { length: 600 },
      (_, i) => `person-${i % 200},${i % 2 === 0 ? 'no' : 'yes'},${20 + (i % 60)},f`,
    );
    const file = async (name: string, lines: readonly string[]): Promise<string> => {
      const path = join(folder, name);
      await writeFile(path, `patient,sick,age,sex\n${lines.join('\n')}\n`);
      return path;
    };
    const described = join(folder, 'table.yaml');
    await writeFile(described, JSON.stringify(description));
    const train = await file('all.csv', rows);
    const split = await loadTable({ description: described, train, testShare: 0.25 });
    expect(split.train.count + split.test.count).toBe(600);
    expect(new Set(split.test.persons).size * 3).toBe(split.test.count);
    expect(new Set(split.test.persons).size).toBeGreaterThan(25);
    expect(new Set(split.test.persons).size).toBeLessThan(75);
    const fewer = await loadTable({
      description: described,
      train: await file('half.csv', rows.slice(0, 300)),
      testShare: 0.25,
    });
    expect(fewer.test.features).toEqual(split.test.features.slice(0, fewer.test.features.length));
    const given = await loadTable({
      description: described,
      train,
      test: await file('test.csv', rows.slice(0, 7)),
      testShare: 0.25,
    });
    expect([given.train.count, given.test.count]).toEqual([600, 7]);
  });
});
