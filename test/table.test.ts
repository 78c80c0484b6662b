import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { loadTable, parseTable, tableDescriptionSchema, tableEntries, tableWidth } from '../clients/node/table.ts';
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

  it('refuses bytes that are no UTF-8, in which two persons could become one', () => {
    const latin = (name: number): Uint8Array =>
      Uint8Array.of(...bytes('patient,sick,age,sex\nM'), name, ...bytes('ller,no,50,f\n'));
    const message = (text: Uint8Array): string => {
      try {
        parseTable(text, description, 'site.csv');
      } catch (error) {
        if (isCoveyError(error)) return `${error.code} ${error.message}`;
        throw error;
      }
      return 'read';
    };
    for (const name of [0xfc, 0xf6]) expect(message(latin(name))).toBe('CODEC_TYPE "site.csv" expected text in UTF-8');
  });

  it('knows a person in both spellings of a letter with a mark', () => {
    const table = 'patient,sick,age,sex\nM\u00fcller,no,50,f\nMu\u0308ller,no,50,f\nMuller,no,50,f\n';
    expect([...(parseTable(bytes(table), description, 'site.csv').data.persons ?? [])]).toEqual([0, 0, 1]);
  });

  it('refuses more numbers than it can hold', () => {
    const values = Array.from({ length: 256 }, (_, i) => `v${i}`);
    const wide = { ...description, features: Array.from({ length: 60_000 }, () => ({ column: 'sex', values })) };
    const rows = Array.from({ length: 20 }, (_, i) => `p${i},no,50,v1\n`).join('');
    expect(messageOf(`patient,sick,age,sex\n${rows}`, wide)).toMatch(/^CODEC_LIMIT "site.csv" .*20 rows of 15360000/);
  });

  it('keeps no cells: a table that is read takes little more memory than its numbers', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-table-'));
    const path = join(folder, 'long.csv');
    const row = (i: number): string => `p${i % 100},no,${20 + (i % 60)},f,${'-'.repeat(40)}\n`;
    const rows = 150_000;
    await writeFile(path, `patient,sick,age,sex,note\n${Array.from({ length: rows }, (_, i) => row(i)).join('')}`);
    await writeFile(join(folder, 'table.json'), JSON.stringify(description));
    const script = `
      const { loadTable } = await import(${JSON.stringify(new URL('../dist/clients/node/table.js', import.meta.url).href)});
      const folder = process.cwd();
      const files = { description: folder + '/table.json', train: folder + '/long.csv', test: folder + '/long.csv', testShare: 0.2 };
      const { train } = await loadTable(files);
      console.log(train.count);`;
    // Kept as texts the cells would not fit this heap.
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--max-old-space-size=48', '--input-type=module', '-e', script],
      { cwd: folder },
    );
    expect(Number(stdout)).toBe(rows);
    await rm(folder, { recursive: true });
  });

  it('keeps names of object prototypes, control characters and huge numbers as what they are', () => {
    const odd = tableDescriptionSchema.parse({
      label: { column: 'constructor', values: ['__proto__', 'toString'] },
      person: '__proto__',
      features: [{ column: 'hasOwnProperty', range: [-1, 1] }],
    });
    const table = `__proto__,constructor,hasOwnProperty\n__proto__,toString,1e999\nvalueOf,__proto__,-1e999\n"a\0",toString,0\na,toString,0\n`;
    const { data, names } = parseTable(bytes(table), odd, 'site.csv');
    expect(names).toEqual(['__proto__', 'valueOf', 'a\0', 'a']);
    expect([...(data.persons ?? [])]).toEqual([0, 1, 2, 3]);
    expect([...data.features]).toEqual([1, -1, 0, 0]);
    expect([...data.labels]).toEqual([1, 0, 1, 1]);
    expect(messageOf('__proto__,constructor\na,toString\n', odd)).toMatch(/one column "hasOwnProperty"/);
  });

  it('gives finite features for whatever bytes it accepts, and errors without cells for the others', () => {
    const cell = fc.oneof(
      fc.constantFrom(
        'no',
        'yes',
        'f',
        'm',
        '?',
        '',
        '1e999',
        '-1e-999',
        '.5',
        '1.',
        '"a,b"',
        '"',
        ' 50 ',
        '\r',
        '\0',
        'NaN',
        'secret',
      ),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(fc.array(cell, { minLength: 3, maxLength: 5 }), { maxLength: 6 }), (rows) => {
        const text = `patient,sick,age,sex\n${rows.map((row) => row.join(',')).join('\n')}`;
        try {
          const { data } = parseTable(bytes(text), description, 'site.csv');
          expect(data.features.every((value) => value >= -1 && value <= 1)).toBe(true);
          expect(data.persons?.length).toBe(data.count);
        } catch (error) {
          if (!isCoveyError(error)) throw error;
          expect(error.code.startsWith('CODEC_')).toBe(true);
          expect(error.message).not.toContain('secret');
        }
      }),
      { numRuns: 500 },
    );
  });

  it('reads numbers in one pass, however long they are', () => {
    const digits = '1'.repeat(500_000);
    expect(messageOf(`patient,sick,age,sex\na,no,${digits}x,f\n`)).toMatch(/"age" expected a number in line 2/);
    const { data } = parseTable(bytes(`patient,sick,age,sex\na,no,${digits},f\nb,no,20.,f\n`), description, 'site.csv');
    expect([data.features[0], data.features[3]]).toEqual([1, -1]);
  });

  it('refuses descriptions without public ranges', () => {
    const feature = (given: object): object => ({ ...description, features: [{ column: 'age', ...given }] });
    expect(tableDescriptionSchema.safeParse(feature({ range: [80, 20] })).success).toBe(false);
    expect(tableDescriptionSchema.safeParse(feature({ range: [-1e308, 1e308] })).success).toBe(false);
    expect(tableDescriptionSchema.safeParse(feature({})).success).toBe(false);
    expect(tableDescriptionSchema.safeParse({ ...description, features: [] }).success).toBe(false);
  });
});

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

describe('columns of entries', () => {
  const coded = tableDescriptionSchema.parse({
    label: { column: 'label', values: ['no', 'yes'] },
    features: [
      { column: 'ward', entries: ['a', 'b', 'constructor'] },
      { column: 'code', entries: ['x', 'y', 'x'] },
    ],
    missing: [''],
  });
  const rows = (...lines: string[]): Float32Array =>
    parseTable(bytes(['ward,code,label', ...lines, ''].join('\n')), coded, 'coded.csv').data.features;

  it('become rows of one table of embeddings, each column behind the one before it, missing ones last', () => {
    expect([...rows('a,x,no', 'constructor,y,yes', ',,no')]).toEqual([0, 4, 2, 5, 3, 7]);
    expect([tableWidth(coded), tableEntries(coded)]).toEqual([2, 8]);
  });

  it('stand alone: a network that looks rows up reads nothing else', () => {
    const mixed = { ...coded, features: [...coded.features, { column: 'age', range: [0, 99] }] };
    expect(tableDescriptionSchema.safeParse(mixed).error?.issues.map(({ message }) => message)).toEqual([
      'expected entries in all columns or in none',
    ]);
  });

  it('refuse entries that were not declared, without what is in the cell', () => {
    const line = '"code" expected one of 3 declared entries in line 3';
    expect(() => rows('a,x,no', 'a,secret,no')).toThrow(new RegExp(`^${line}$`));
    expect(() => rows('toString,x,no')).toThrow('"ward" expected one of 3 declared entries in line 2');
  });
});

describe('the held-out records', () => {
  it('keep their side when another row comes or goes, with persons and without', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-table-'));
    folders.push(folder);
    const rows = Array.from({ length: 120 }, (_, i) => `person-${i},no,${20 + i / 2},f`);
    for (const person of ['patient', undefined]) {
      const described = join(folder, `${person}.yaml`);
      await writeFile(described, JSON.stringify({ ...description, person }));
      const ages = async (kept: readonly string[]): Promise<number[][]> => {
        const path = join(folder, 'rows.csv');
        await writeFile(path, `patient,sick,age,sex\n${kept.join('\n')}\n`);
        const { train, test } = await loadTable({ description: described, train: path, testShare: 0.25 });
        return [train, test].map(({ features }) => [...features].filter((_, i) => i % 3 === 0));
      };
      const whole = await ages(rows);
      // The first row alone has the lowest age.
      expect(await ages(rows.slice(1))).toEqual(whole.map((side) => side.filter((value) => value !== -1)));
      expect(whole.every((side) => side.length > 10)).toBe(true);
    }
  });

  it('are a share of equal rows, too, one of which comes or goes on one side', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'covey-table-'));
    folders.push(folder);
    const described = join(folder, 'rows.json');
    await writeFile(described, JSON.stringify({ ...description, person: undefined }));
    const sizes = async (rows: readonly string[]): Promise<number[]> => {
      const path = join(folder, 'rows.csv');
      await writeFile(path, `patient,sick,age,sex\n${rows.join('\n')}\n`);
      const { train, test } = await loadTable({ description: described, train: path, testShare: 0.25 });
      return [train, test].flatMap(({ labels }) => [labels.filter((label) => label === 0).length, labels.length]);
    };
    const rows = Array.from({ length: 400 }, (_, i) => `p${i},${i % 2 === 0 ? 'no' : 'yes'},50,f`);
    const whole = await sizes(rows);
    for (const [i, least] of [
      [2, 25],
      [3, 60],
    ] as const) {
      expect(whole[i]).toBeGreaterThan(least);
      expect(whole[i]).toBeLessThan(3 * least);
    }
    for (const gone of [0, 1, 200, 399]) {
      const fewer = await sizes(rows.filter((_, i) => i !== gone));
      const lost = whole.map((size, i) => size - (fewer[i] as number));
      expect([lost[1], lost[3]].toSorted()).toEqual([0, 1]);
      expect((lost[0] as number) + (lost[2] as number)).toBe(gone % 2 === 0 ? 1 : 0);
    }
  });

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
