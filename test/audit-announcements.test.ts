import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromUtf8 } from '../protocol/bytes.ts';
import { verifyBundle } from '../src/audit/verifier.ts';
import { type BundleChanges, createBundle, type EntrySpec } from './support/bundle.ts';

const audit = (changes: BundleChanges = {}) =>
  verifyBundle(createBundle({ localQueries: 5, ...changes }).reader, nodeCrypto);

/** Rewrites bodies of one kind of entry, as text. */
const rewriting =
  (chosen: (spec: EntrySpec) => boolean, change: (body: string) => string) =>
  (specs: EntrySpec[]): EntrySpec[] =>
    specs.map((spec) =>
      chosen(spec) ? { ...spec, body: JSON.parse(change(JSON.stringify(spec.body))) as Record<string, unknown> } : spec,
    );

describe('the audit of a run with noise inside the organizations', () => {
  it('derives every charge and says in the report what nobody can check', async () => {
    const bundle = createBundle({ localQueries: 5 });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    const page = fromUtf8(bundle.files.get('report.html') as Uint8Array);
    expect(page).toContain('in each of 5 gradients a step');
    expect(page).toContain('nobody outside can check it');
    expect(fromUtf8(createBundle().files.get('report.html') as Uint8Array)).not.toContain('gradients a step');
  });

  it('refuses fewer gradients than there are minibatches', async () => {
    const report = await audit({ localQueries: 4 });
    expect(report.failure).toMatchObject({ class: 'noise' });
    expect(report.failure?.message).toContain('at least 5 gradients');
  });

  it('refuses a participant that was charged for another number of gradients', async () => {
    let seen = 0;
    const last = (spec: EntrySpec): boolean =>
      spec.type === 'client.charge' && JSON.stringify(spec.body).includes('selfComposed') && seen++ === 3;
    const report = await audit({ specs: rewriting(last, (body) => body.replace('"count":5', '"count":6')) });
    expect(report.failure).toMatchObject({ class: 'noise' });
    expect(report.failure?.message).toContain('"events"');
  });

  it('refuses a plan with less noise, or of a shorter clip, than the run announces', async () => {
    const isOpen = ({ type }: EntrySpec): boolean => type === 'run.open';
    const less = await audit({
      specs: rewriting(isOpen, (body) => body.replace('"shareVariance":"4', '"shareVariance":"3')),
    });
    expect(less.failure).toMatchObject({ class: 'noise' });
    const shorter = await audit({
      specs: rewriting(isOpen, (body) => body.replace('"sensitivity":"1024"', '"sensitivity":"1000"')),
    });
    expect(shorter.failure).toMatchObject({ class: 'noise' });
    expect(shorter.failure?.message).toContain('"sensitivity"');
  });

  it('refuses a sum without noise in a run that did not announce any elsewhere', async () => {
    const report = await verifyBundle(
      createBundle({
        localQueries: 5,
        specs: rewriting(
          ({ type }) => type === 'run.open',
          (body) => body.replace(/"localNoise":\{"clippingNorm":1\}/, '"mechanism":"discrete-gaussian"'),
        ),
      }).reader,
      nodeCrypto,
    );
    expect(report.failure).not.toBeNull();
  });
});

describe('the audit of a run in which a site trains with a program of its own', () => {
  it('says whose rows rest on that program, in the report and beside what it assumes', async () => {
    const bundle = createBundle({
      specs: (specs, { members }) =>
        specs.map((spec) =>
          spec.type === 'client.charge' && spec.body['purpose'] === 'train' && spec.actor === members[1]
            ? { ...spec, body: { ...spec.body, assurance: 'trusted trainer' } }
            : spec,
        ),
    });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    const name = bundle.members[1]?.organization ?? '';
    expect(report.assumed.filter((line) => line.includes('trusted trainer'))).toEqual([
      expect.stringMatching(`^${name}: `),
    ]);
    expect(fromUtf8(bundle.files.get('report.html') as Uint8Array)).toContain(`${name} *`);
    const plain = createBundle();
    expect((await verifyBundle(plain.reader, nodeCrypto)).assumed.join()).not.toContain('trusted trainer');
    expect(fromUtf8(plain.files.get('report.html') as Uint8Array)).not.toContain('trusted trainer');
  });
});

describe('the audit of a run that protects persons', () => {
  it('says so in the report and in what it assumes', async () => {
    const bundle = createBundle({ perPerson: true });
    const report = await verifyBundle(bundle.reader, nodeCrypto);
    expect(report.failure).toBeNull();
    expect(report.assumed.join()).toContain('all of its rows there carry its name');
    expect(report.assumed.join()).not.toContain('owns one record');
    expect(fromUtf8(bundle.files.get('report.html') as Uint8Array)).toContain(
      'one person with all rows at one organization',
    );
  });
});

describe('the report of a run with clusters in the open', () => {
  it('says who belongs together and what that tells', () => {
    const open = createBundle({
      clusters: {
        kept: 2,
        open: [
          ['hospital-a', 'hospital-b'],
          ['hospital-c', 'hospital <d>'],
        ],
      },
    });
    const page = fromUtf8(open.files.get('report.html') as Uint8Array);
    expect(page).toContain('hospital-a, hospital-b; hospital-c, hospital &#60;d&#62;');
    expect(page).toContain('ε does not cover that');
    expect(fromUtf8(createBundle().files.get('report.html') as Uint8Array)).not.toContain('ε does not cover that');
  });
});
