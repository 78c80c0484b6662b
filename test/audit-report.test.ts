import { describe, expect, it } from 'vitest';
import { fromUtf8 } from '../protocol/bytes.ts';
import { createBundle } from './support/bundle.ts';

const html = (changes: Parameters<typeof createBundle>[0] = {}): string =>
  fromUtf8(createBundle(changes).files.get('report.html') as Uint8Array);

describe('the report', () => {
  const page = html();

  it('is one self-contained page: no scripts, no addresses outside, the same bytes again', () => {
    expect(page).toBe(html());
    expect(page.startsWith('<!doctype html>')).toBe(true);
    expect(page).not.toMatch(/<script|src=|href=|@import|url\(|undefined|NaN|Infinity/);
    // The name space of SVG is the only address.
    expect(
      [...page.matchAll(/https?:\/\/[^"< ]+/g)]
        .map(([address]) => address)
        .filter((address) => address !== 'http://www.w3.org/2000/svg'),
    ).toEqual([]);
  });

  it('says what was spent, against whom, and what the budget was', () => {
    expect(page).toMatch(/at most <b>ε = \d\.\d\d<\/b> \(δ = 0\.00001\), even if one organization/);
    expect(page).toContain('budget 8');
    expect(page).toContain('Clustered + personal');
    expect(page.match(/simulated for comparison/g)).toHaveLength(2);
  });

  it('says openly what slots of one organization mean, who was lost and what was aborted', () => {
    expect(page).toContain('in round 2 the slots were founded');
    expect(page).toMatch(/was lost in training step 5, masked input/);
    expect(page).toContain('aborted in share-keys: a ciphertext did not open');
    expect(page).toContain('2 (attempt 2)');
  });

  it('names consecutive releases whose members hardly differ, and only those', () => {
    const note = page.match(/<b>Differencing:<\/b>[^<]*/)?.[0] ?? '';
    expect(note).toContain('the 3 members that a sum needs: rounds 4 and 5 by 1 member. What');
  });

  it('escapes what comes from outside', () => {
    const hostile = html({
      results: (results) => ({
        ...results,
        note: '<img src=x onerror=alert(1)>',
        lost: [{ organization: '"><u>', round: 1, phase: '<i>' }],
      }),
    });
    expect(hostile).toContain('&#60;img src=x onerror=alert(1)&#62;');
    expect(hostile).not.toContain('"><u>');
  });
});
