import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ATTACKS, attacksOf, type Profile, profileOf, registryFaults, UNTRIED } from '../scripts/attacks.ts';

const folder = join(import.meta.dirname, 'attacks');

/** `attack profile` of every test, with the number of tests; names are read from the sources. */
const tried = new Map<string, number>();
for (const file of readdirSync(folder)) {
  let suite = '';
  const source = readFileSync(join(folder, file), 'utf8');
  for (const [, kind, , name = ''] of source.matchAll(/\b(describe|it)\(\s*(['"`])((?:\\.|(?!\2)[^\\])*)\2/g)) {
    if (kind === 'describe') suite = name;
    else
      for (const attack of attacksOf(suite, name)) {
        const key = `${attack} ${profileOf(file)}`;
        tried.set(key, (tried.get(key) ?? 0) + 1);
      }
  }
}
const countOf = (attack: number, profile: Profile): number => tried.get(`${attack} ${profile}`) ?? 0;

describe('the registry of attacks', () => {
  it('has a line for every attack, and no test names another one', () => {
    expect(ATTACKS.map(([number]) => number)).toEqual(Array.from({ length: 32 }, (_, i) => i + 1));
    const named = new Set([...tried.keys()].map((key) => Number(key.split(' ')[0])));
    expect([...named].sort((a, b) => a - b)).toEqual(ATTACKS.map(([number]) => number));
  });

  it('is complete: every attack has a test in both profiles, or a reason why not', () => {
    expect(registryFaults(countOf)).toEqual([]);
    for (const [, , reason] of UNTRIED) expect(reason.length).toBeGreaterThan(10);
  });

  it('is found incomplete without the tests of one attack in one profile, and with an excuse too many', () => {
    const without = (attack: number, profile: Profile) =>
      registryFaults((a, p) => (a === attack && p === profile ? 0 : countOf(a, p)));
    expect(without(31, 'sparse')).toEqual(['A31 expected a test or a reason in the sparse profile']);
    expect(without(1, 'strict')).toEqual(['A1 expected a test or a reason in the strict profile']);
    expect(without(28, 'strict')).toEqual([]);
    expect(registryFaults((a, p) => (a === 28 ? 1 : countOf(a, p)))).toEqual([
      'A28 expected no excuse in the strict profile',
    ]);
  });

  it('counts a test for the attacks of its own name, and for those of its suite only where it names none', () => {
    expect(attacksOf('A20 and A31: signatures', 'A20: a reveal')).toEqual([20]);
    expect(attacksOf('A20 and A31: signatures', 'a reveal like that of A9: another')).toEqual([20, 31]);
    expect(attacksOf('A20 and A31: signatures', 'a reveal')).toEqual([20, 31]);
    expect([profileOf('test/attacks/sparse-keys.test.ts'), profileOf('keys.test.ts')]).toEqual(['sparse', 'strict']);
  });
});
