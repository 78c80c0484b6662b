import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ATTACKS, numbersOf } from '../scripts/attacks.ts';

it('every attack has a line in the table and a named suite, and every suite a line', () => {
  const folder = join(import.meta.dirname, 'attacks');
  const named = new Set<number>();
  for (const file of readdirSync(folder)) {
    for (const [, name = ''] of readFileSync(join(folder, file), 'utf8').matchAll(/(?:describe|it)\(['"`]([^'"`]+)/g))
      for (const number of numbersOf(name)) named.add(number);
  }
  expect(ATTACKS.map(([number]) => number)).toEqual(Array.from({ length: 31 }, (_, i) => i + 1));
  expect([...named].sort((a, b) => a - b)).toEqual(ATTACKS.map(([number]) => number));
});
