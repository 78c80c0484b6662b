import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { restoreAccountant } from '../src/privacy/accountant.ts';
import { type DatasetBudget, openDatasetLedger, reportDataset, type SeenHead } from '../src/privacy/dataset-ledger.ts';
import type { JsonObject } from '../src/privacy/event-json.ts';
import { type DpEvent, RELATIONS } from '../src/privacy/events.ts';
import { openLedger, reportLedger, reportPaths } from '../src/privacy/ledger.ts';
import type { View } from '../src/privacy/views.ts';

/* What was stored once loads forever, and means what it meant: `vectors/stored-states.json` is never written again. */

interface StoredState extends JsonObject {
  readonly accountant: string;
  readonly relation: string;
  readonly charges: readonly { readonly count: number; readonly event: JsonObject }[];
}

interface Stored {
  readonly states: readonly { readonly state: StoredState; readonly epsilon: string }[];
  readonly ledgers: readonly {
    readonly name: string;
    readonly lines: readonly string[];
    readonly epsilon: Readonly<Partial<Record<View, string>>>;
    readonly paths: readonly string[];
  }[];
  readonly dataset: readonly {
    readonly name: string;
    readonly budget: DatasetBudget;
    readonly lines: readonly string[];
    readonly seen: SeenHead;
    readonly periods: readonly { readonly period: string; readonly epsilon: string }[];
  }[];
}

const stored = JSON.parse(readFileSync(join(import.meta.dirname, 'vectors/stored-states.json'), 'utf8')) as Stored;

/** Equal where the bound is a formula; loss distributions may come out tighter, by as much as a grid may cost, never looser. */
function expectEpsilon(found: number, frozen: string, accountant = 'rdp'): void {
  if (frozen === 'infinite') {
    expect(found).toBe(Number.POSITIVE_INFINITY);
    return;
  }
  const was = Number(frozen);
  expect(found).toBeLessThanOrEqual(was * (1 + 1e-9));
  expect(found).toBeGreaterThanOrEqual(was * (1 - (accountant === 'pld' ? 2e-4 : 1e-9)));
}

/** A kind that is added without an entry here does not compile. */
const KINDS: Readonly<Record<DpEvent['kind'], 'stored' | 'never composed' | 'stored as its parts'>> = {
  gaussian: 'stored',
  discreteGaussian: 'stored',
  skellam: 'stored',
  laplace: 'stored',
  discreteLaplace: 'stored',
  gaussianMixture: 'stored',
  truncatedPoissonGaussian: 'stored',
  exponentialMechanism: 'stored',
  permuteAndFlip: 'stored',
  randomizedResponse: 'stored',
  poissonSampled: 'stored',
  fixedSizeSampled: 'stored',
  selfComposed: 'stored as its parts',
  composed: 'stored as its parts',
  zCdp: 'stored',
  treeAggregation: 'stored',
  repeatAndSelect: 'stored',
  approximateDp: 'stored',
  nonPrivate: 'stored',
  unsupported: 'never composed',
};

/** True if the accountant takes the event under some relation. */
function isBounded(accountant: string, event: JsonObject): boolean {
  return RELATIONS.some((relation) => {
    try {
      restoreAccountant({ accountant, relation, charges: [{ count: 1, event }] });
      return true;
    } catch (error) {
      if (!isCoveyError(error, 'PRIVACY_UNSUPPORTED_EVENT')) throw error;
      return false;
    }
  });
}

describe('stored states of accountants', () => {
  it.each(stored.states.map(({ state, epsilon }, i) => [i, state.accountant, state.relation, state, epsilon] as const))(
    'number %i (%s, %s) loads, is written as it was, and has its epsilon',
    (_, accountant, __, state, epsilon) => {
      const restored = restoreAccountant(state);
      expect(restored.state()).toEqual(state);
      expectEpsilon(restored.epsilon(1e-6), epsilon, accountant);
    },
  );

  it('hold every event that was ever stored in every accountant that bounds it, and every kind', () => {
    const pairs = stored.states.flatMap(({ state }) =>
      state.charges.map(({ event }) => ({ accountant: state.accountant, event, text: JSON.stringify(event) })),
    );
    const kinds = new Set(pairs.map(({ event }) => event['kind']));
    const wanted = Object.entries(KINDS).flatMap(([kind, how]) => (how === 'stored' ? [kind] : []));
    expect([...kinds].sort()).toEqual(wanted.sort());
    for (const { event, text } of pairs)
      for (const name of ['rdp', 'zcdp', 'gdp', 'pld']) {
        const has = pairs.some((pair) => pair.accountant === name && pair.text === text);
        expect([name, text, has]).toEqual([name, text, isBounded(name, event)]);
      }
  });

  it('hold every version: with the options of a loss distribution and without, with optional fields and without', () => {
    const options = stored.states.map(({ state }) => Object.keys((state['options'] as JsonObject | undefined) ?? {}));
    const distinct = new Set(options.map((names) => names.sort().join(' ')));
    expect([...distinct].sort()).toEqual(['', 'discreteReduction', 'discreteReduction gridStep', 'gridStep']);
    for (const [kind, field] of [
      ['discreteGaussian', 'otherShareVariances'],
      ['zCdp', 'xi'],
      ['repeatAndSelect', 'shape'],
    ] as const) {
      const events = stored.states.flatMap(({ state }) => state.charges.map(({ event }) => event));
      const has = events.filter((event) => event['kind'] === kind).map((event) => Object.hasOwn(event, field));
      expect(new Set(has)).toEqual(new Set([true, false]));
    }
  });
});

describe('stored ledgers', () => {
  it.each(stored.ledgers)('$name: load and mean what they meant', ({ epsilon, lines, paths }) => {
    const ledger = openLedger(nodeCrypto, lines);
    for (const [view, was] of Object.entries(epsilon)) expectEpsilon(reportLedger(ledger, view as View).epsilon, was);
    expect(reportPaths(ledger).map(({ path }) => path)).toEqual(paths);
    const touched = lines.map((line, i) => (i === 1 ? line.replace('"round":1', '"round":2') : line));
    expect(() => openLedger(nodeCrypto, touched)).toThrow();
  });

  it('hold every version of the first line and of a reserve', () => {
    const bodies = stored.ledgers.map(({ lines }) =>
      lines.map((line) => (JSON.parse(line) as { body: JsonObject }).body),
    );
    const gates = bodies.map(([open]) => (open?.['gate'] as JsonObject | undefined)?.['kind']);
    expect(new Set(gates)).toEqual(new Set([undefined, 'rdp', 'zcdp']));
    expect(new Set(bodies.map(([open]) => open?.['sums']))).toEqual(new Set([undefined, 'float-bounded']));
    expect(new Set(bodies.map((lines) => lines[1]?.['paths'] === undefined))).toEqual(new Set([true, false]));
  });

  it.each(stored.dataset)('of a data set, $name', ({ budget, lines, periods, seen }) => {
    const report = reportDataset(openDatasetLedger(nodeCrypto, budget, lines, seen));
    expect(report.map(({ period }) => period)).toEqual(periods.map(({ period }) => period));
    report.forEach(({ epsilon }, i) => {
      expectEpsilon(epsilon, periods[i]?.epsilon ?? '');
    });
  });
});
