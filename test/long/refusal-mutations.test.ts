import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

/*
 * Every place where the machines refuse something is taken out of a copy of the build, one at a time: a frozen refusal must
 * notice, or the place is named here with the reason why no message can reach it alone.
 */

const FILES = [
  'participant',
  'participant-share',
  'participant-unmask',
  'cohort',
  'messages',
  'roster',
  'graph',
  'params',
  'aggregator',
  'aggregator-unmask',
];

/** Texts of refusals that no vector reaches. */
const UNREACHED: Readonly<Record<string, string>> = {
  '"identity" expected a public key': 'a node with a broken identity: no message',
  '"type" expected no message in the stage': 'stages that wait for the driver: the table of stages refuses first',
  '"reveals" expected none in the strict profile': 'the table of stages refuses first',
  'a sparse cohort without its graph': 'a fault of the program',
  '"roster" expected distinct ids in order': 'a roster is checked before any message',
  '"roster" expected ids that are the hashes': 'a roster is checked before any message',
  '"members" expected at most ${most}': 'takes a cohort of 257 real members; the order of ids is checked as well',
  '"open" expected an aggregator without a session': 'a mistake of the driver',
  '"rosterHash" expected the hash of the roster': 'a mistake of the driver',
  '"type" expected a reveal of a member of the committee': 'in a cohort this small everybody is in the committee',
  '"survivors" expected at most ${params.noise.tolerance}': 'takes a session with removable noise: test/attacks',
  '"folded" expected an upload': 'a mistake of the driver',
};

const ROOT = resolve(import.meta.dirname, '../..');
const copy = mkdtempSync(join(tmpdir(), 'covey-refusals-'));
for (const folder of ['protocol', 'platform', 'test/vectors'])
  cpSync(join(ROOT, 'dist', folder), join(copy, 'dist', folder), { recursive: true });
cpSync(join(ROOT, 'test/vectors/covey-1.json'), join(copy, 'covey-1.json'));
symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
writeFileSync(join(copy, 'package.json'), '{ "type": "module" }');
writeFileSync(
  join(copy, 'count.js'),
  `import { readFileSync } from 'node:fs';
import { nodeCrypto } from './dist/platform/node/crypto.js';
import { failedRefusals } from './dist/test/vectors/refusals.js';
const { session, sparse, refusals } = JSON.parse(readFileSync('covey-1.json', 'utf8'));
process.stdout.write(String(failedRefusals(nodeCrypto, { strict: session, sparse }, refusals).length));
`,
);
afterAll(() => rmSync(copy, { recursive: true, force: true }));

/** Number of refusals that the copy does not reproduce. */
function failures(): number {
  const { stdout, stderr } = spawnSync(process.execPath, ['count.js'], { cwd: copy, encoding: 'utf8' });
  // A copy that does not even load proves nothing.
  if (!/^\d+$/.test(stdout)) throw new Error(stderr);
  return Number(stdout);
}

describe('the frozen refusals', () => {
  it('are all reproduced by the machines as they are', () => {
    expect(failures()).toBe(0);
  });

  const reached = new Set<string>();
  for (const file of FILES) {
    it(`notice every check that is taken out of ${file}`, () => {
      const path = join(copy, 'dist/protocol', `${file}.js`);
      const source = readFileSync(path, 'utf8');
      const places = [...source.matchAll(/throw (?=new (?:CoveyError|Complaint|AccusedError)\()/g)];
      expect(places.length).toBeGreaterThan(0);
      const unnoticed: string[] = [];
      for (const { index } of places) {
        const text = source.slice(index, index + 400);
        const excuse = Object.keys(UNREACHED).find((part) => text.slice(0, 160).includes(part));
        writeFileSync(path, `${source.slice(0, index)}void ${source.slice(index + 'throw '.length)}`);
        const isNoticed = failures() > 0;
        if (excuse !== undefined) reached.add(excuse);
        // An excuse for a check that is reached is as wrong as a check that is not.
        if (isNoticed === (excuse !== undefined)) unnoticed.push(text.slice(0, 120));
      }
      writeFileSync(path, source);
      expect(unnoticed).toEqual([]);
    });
  }

  it('have no excuse for a check that is gone', () => {
    expect([...reached].sort()).toEqual(Object.keys(UNREACHED).sort());
  });
});
