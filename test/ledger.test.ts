import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromHex, toHex, utf8 } from '../protocol/bytes.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import {
  createLedger,
  type EvidenceVerifier,
  type Ledger,
  openLedger,
  reportLedger,
  reserve,
  restore,
  settle,
  statusOf,
  wouldExceed,
} from '../src/privacy/ledger.ts';
import { hashLine, type LedgerTerms, type SurvivorEvidence } from '../src/privacy/ledger-entry.ts';
import {
  type ChargeFact,
  createServerLedger,
  membersOverBudget,
  reportParticipant,
  reportWorst,
  reserveFact,
  settleFact,
} from '../src/privacy/server-ledger.ts';
import { honestShares, type View } from '../src/privacy/views.ts';

const keys = Array.from({ length: 12 }, (_, i) => new Uint8Array(32).fill(i + 1));
const ids = keys.map((seed) => toHex(nodeCrypto.sha256(nodeCrypto.ed25519PublicKey(seed)).subarray(0, 16)));
const [me] = ids as [string];
const sid = (n: number): string => toHex(nodeCrypto.sha256(utf8(`session ${n}`)));
const H3 = toHex(nodeCrypto.sha256(utf8('survivors')));
const COLLUDERS = 0;

const TERMS: LedgerTerms = {
  participant: me,
  budget: { epsilon: 2, delta: 1e-5 },
  budgetView: 'server',
  views: ['server', 'release'],
  unit: 'record',
  relation: 'add-remove',
  colluders: COLLUDERS,
  accountant: 'rdp',
};

function eventsFor(survivors: number): Record<View, DpEvent[]> {
  const event = (view: View): DpEvent => ({
    kind: 'poissonSampled',
    probability: 0.5,
    event: {
      kind: 'discreteGaussian',
      shares: honestShares(view, survivors, COLLUDERS),
      shareVariance: 1.2e10,
      sensitivity: 65_536,
      dimension: 8192,
      symmetric: true,
    },
  });
  return { server: [event('server')], release: [event('release')] };
}
const reserveOf = (round: number) => ({
  sid: sid(round),
  round,
  purpose: 'train',
  threshold: 9,
  events: eventsFor(9),
});
const settleOf = (round: number, survivors = 12) => ({
  sid: sid(round),
  h3: H3,
  survivors,
  events: eventsFor(survivors),
});

/** A ledger and everything it has stored. */
function book(steps: (take: (step: { ledger: Ledger; line: string }) => Ledger, ledger: Ledger) => void): {
  ledger: Ledger;
  lines: string[];
} {
  const opened = createLedger(nodeCrypto, TERMS);
  const state = { ledger: opened.ledger, lines: [opened.line] };
  steps((step) => {
    state.lines.push(step.line);
    state.ledger = step.ledger;
    return step.ledger;
  }, opened.ledger);
  return state;
}

/** What a ledger holds, as plain data. */
function contents({ charges, ...rest }: Ledger): unknown {
  const settled = charges.views.map((view) => charges.settled[view]?.state());
  return structuredClone({ ...rest, settled, reserved: charges.reserved, closed: charges.closed });
}

function refusal(run: () => unknown): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return isCoveyError(error) ? error.code : String(error);
  }
}

/** Evidence as sessions give it, reduced to what the ledger asks: h3 bound to session and survivors, signatures. */
const certificateHash = (session: string, survivors: readonly string[]): string =>
  toHex(nodeCrypto.sha256(utf8(JSON.stringify([session, survivors]))));

function sign(session: string, survivors: readonly string[], signers: readonly number[]): SurvivorEvidence {
  const h3 = certificateHash(session, survivors);
  const signatures = signers.map((i) => ({
    signer: ids[i] as string,
    signature: toHex(nodeCrypto.ed25519Sign(fromHex(h3), keys[i] as Uint8Array)),
  }));
  return { h3, survivors, signatures };
}

const verify: EvidenceVerifier = (session, { h3, survivors, signatures }) => {
  if (certificateHash(session, survivors) !== h3) return null;
  return signatures
    .filter(({ signer, signature }) => {
      const key = keys[ids.indexOf(signer)];
      return key && nodeCrypto.ed25519Verify(fromHex(signature), fromHex(h3), nodeCrypto.ed25519PublicKey(key));
    })
    .map(({ signer }) => signer);
};

const everyoneElse = ids.slice(1);
const signersTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

describe('participant ledger', () => {
  it('charges the worst case first and settles to what was realised, in both views', () => {
    const { ledger } = book((take, start) => {
      const reserved = take(reserve(nodeCrypto, start, reserveOf(1)));
      const worst = rdpAccountant().compose(eventsFor(9).server[0] as DpEvent);
      expect(reportLedger(reserved).epsilon).toBe(worst.epsilon(1e-5));
      expect(statusOf(reserved, sid(1))).toBe('reserved');
      take(settle(nodeCrypto, reserved, settleOf(1)));
    });
    for (const view of ['server', 'release'] as const) {
      const real = rdpAccountant().compose(eventsFor(12)[view][0] as DpEvent);
      expect(reportLedger(ledger, view)).toEqual({
        epsilon: real.epsilon(1e-5),
        delta: 1e-5,
        unit: 'record',
        relation: 'add-remove',
        view,
        colluders: COLLUDERS,
        accountant: 'rdp',
      });
    }
    expect(statusOf(ledger, sid(1))).toBe('settled');
    expect(statusOf(ledger, sid(2))).toBe('none');
  });

  it('refuses the round that would exceed, counting settled, reserved and new charges, and stores nothing then', () => {
    const { ledger } = book((take, start) => {
      let current = start;
      let round = 1;
      while (!wouldExceed(current, eventsFor(9))) {
        current = take(reserve(nodeCrypto, current, reserveOf(round)));
        // Every other session settles; the rest stay reserved, as after crashes.
        if (round % 2 === 0) current = take(settle(nodeCrypto, current, settleOf(round)));
        round++;
      }
      expect(round).toBeGreaterThan(4);
      expect(reportLedger(current).epsilon).toBeLessThanOrEqual(TERMS.budget.epsilon);
      expect(refusal(() => reserve(nodeCrypto, current, reserveOf(round)))).toBe('PRIVACY_BUDGET');
      expect(statusOf(current, sid(round))).toBe('none');
      // What depends on no data is free, even now.
      const free = { ...reserveOf(round), purpose: 'census', events: { server: [], release: [] } };
      take(reserve(nodeCrypto, current, free));
    });
    expect(reportLedger(ledger).epsilon).toBeLessThanOrEqual(TERMS.budget.epsilon);
  });

  it('keeps a reserve through a crash: what was stored is what is charged', () => {
    const { ledger, lines } = book((take, start) => {
      take(
        reserve(
          nodeCrypto,
          take(settle(nodeCrypto, take(reserve(nodeCrypto, start, reserveOf(1))), settleOf(1))),
          reserveOf(2),
        ),
      );
    });
    const reopened = openLedger(nodeCrypto, lines);
    expect(contents(reopened)).toEqual(contents(ledger));
    expect(reportLedger(reopened)).toEqual(reportLedger(ledger));
    expect(statusOf(reopened, sid(2))).toBe('reserved');
    // A crash between storing the line and acting on it: the reserve counts although nothing was sent.
    expect(reportLedger(reopened).epsilon).toBeGreaterThan(
      reportLedger(openLedger(nodeCrypto, lines.slice(0, 3))).epsilon,
    );
  });

  it('never settles above the reserve, twice, or without one', () => {
    const { ledger } = book(
      (take, start) => void take(reserve(nodeCrypto, start, { ...reserveOf(1), events: eventsFor(10) })),
    );
    expect(refusal(() => settle(nodeCrypto, ledger, settleOf(1, 9)))).toBe('PRIVACY_LEDGER');
    expect(
      refusal(() => settle(nodeCrypto, ledger, { ...settleOf(1), events: { server: eventsFor(12).server } })),
    ).toBe('PRIVACY_LEDGER');
    expect(refusal(() => settle(nodeCrypto, ledger, settleOf(2)))).toBe('PRIVACY_LEDGER');
    expect(refusal(() => reserve(nodeCrypto, ledger, reserveOf(1)))).toBe('PRIVACY_LEDGER');
    const settled = settle(nodeCrypto, ledger, settleOf(1, 10)).ledger;
    expect(refusal(() => settle(nodeCrypto, settled, settleOf(1)))).toBe('PRIVACY_LEDGER');
    expect(refusal(() => reserve(nodeCrypto, settled, reserveOf(1)))).toBe('PRIVACY_LEDGER');
  });

  it('refuses events nobody can bound, and writes no line for them', () => {
    const { ledger } = book(() => undefined);
    const events = { ...eventsFor(9), release: [{ kind: 'unsupported', reason: 'x' } as DpEvent] };
    expect(refusal(() => reserve(nodeCrypto, ledger, { ...reserveOf(1), events }))).toBe('PRIVACY_UNSUPPORTED_EVENT');
    expect(ledger.size).toBe(1);
  });

  it('gives a reserve back only for t valid signatures of survivors over a set without the payer', () => {
    const { ledger, lines } = book((take, start) => void take(reserve(nodeCrypto, start, reserveOf(1))));
    const refused = (evidence: SurvivorEvidence, session = sid(1)): string =>
      refusal(() => restore(nodeCrypto, ledger, session, evidence, verify));
    const good = sign(sid(1), everyoneElse, signersTo(9));
    expect(refused(sign(sid(1), everyoneElse, signersTo(8)))).toBe('PRIVACY_LEDGER');
    expect(refused(sign(sid(1), ids, signersTo(9)))).toBe('PRIVACY_LEDGER');
    expect(refused(sign(sid(2), everyoneElse, signersTo(9)))).toBe('PRIVACY_LEDGER');
    expect(refused({ ...good, survivors: everyoneElse.slice(1) })).toBe('PRIVACY_LEDGER');
    expect(refused(sign(sid(1), everyoneElse.slice(0, 8), signersTo(9)))).toBe('PRIVACY_LEDGER');
    const [first] = good.signatures as [SurvivorEvidence['signatures'][number]];
    expect(refused({ ...good, signatures: Array.from({ length: 9 }, () => first) })).toBe('PRIVACY_LEDGER');
    const forged = good.signatures.map((s, i) => (i === 4 ? { ...s, signature: first.signature } : s));
    expect(refused({ ...good, signatures: forged })).toBe('PRIVACY_LEDGER');
    expect(refused(sign(sid(3), everyoneElse, signersTo(9)), sid(3))).toBe('PRIVACY_LEDGER');

    const step = restore(nodeCrypto, ledger, sid(1), good, verify);
    expect(reportLedger(step.ledger).epsilon).toBe(0);
    expect(statusOf(step.ledger, sid(1))).toBe('restored');
    expect(refusal(() => settle(nodeCrypto, step.ledger, settleOf(1)))).toBe('PRIVACY_LEDGER');
    expect(refusal(() => reserve(nodeCrypto, step.ledger, reserveOf(1)))).toBe('PRIVACY_LEDGER');
    // The proof is in the line and checked again when the ledger is opened.
    expect(contents(openLedger(nodeCrypto, [...lines, step.line], verify))).toEqual(contents(step.ledger));
    expect(refusal(() => openLedger(nodeCrypto, [...lines, step.line]))).toBe('PRIVACY_LEDGER');
    expect(refusal(() => openLedger(nodeCrypto, [...lines, step.line], () => everyoneElse.slice(0, 8)))).toBe(
      'PRIVACY_LEDGER',
    );
    const settled = settle(nodeCrypto, ledger, settleOf(1)).ledger;
    expect(refusal(() => restore(nodeCrypto, settled, sid(1), good, verify))).toBe('PRIVACY_LEDGER');
  });

  it('does not depend on the order in which sessions settle', () => {
    const orders = [
      [1, 2, 3],
      [3, 1, 2],
    ].map((order) =>
      book((take, start) => {
        let current = start;
        for (const round of [1, 2, 3]) current = take(reserve(nodeCrypto, current, reserveOf(round)));
        for (const round of order) current = take(settle(nodeCrypto, current, settleOf(round, 9 + round)));
      }),
    );
    expect(reportLedger((orders[0] as { ledger: Ledger }).ledger)).toEqual(
      reportLedger((orders[1] as { ledger: Ledger }).ledger),
    );
  });

  it('leaves its input alone', () => {
    const { ledger } = book((take, start) => void take(reserve(nodeCrypto, start, reserveOf(1))));
    const before = contents(ledger);
    settle(nodeCrypto, ledger, settleOf(1));
    reserve(nodeCrypto, ledger, reserveOf(2));
    expect(contents(ledger)).toEqual(before);
  });
});

describe('stored ledger lines', () => {
  const stored = book((take, start) => {
    let current = start;
    for (const round of [1, 2, 3]) {
      current = take(reserve(nodeCrypto, current, reserveOf(round)));
      current = take(settle(nodeCrypto, current, settleOf(round)));
    }
  }).lines;

  function faultOf(lines: readonly string[]): { code: string; line: unknown } {
    try {
      openLedger(nodeCrypto, lines);
      return { code: 'accepted', line: 0 };
    } catch (error) {
      return isCoveyError(error) ? { code: error.code, line: error.detail['line'] } : { code: String(error), line: 0 };
    }
  }

  it('are found broken at the line where any byte was changed', () => {
    for (const [i, line] of stored.entries()) {
      for (let at = 0; at < line.length; at += 13) {
        const changed = line.slice(0, at) + String.fromCharCode(line.charCodeAt(at) ^ 1) + line.slice(at + 1);
        const { code, line: named } = faultOf(stored.with(i, changed));
        // A change that leaves the line well formed shows in the hash that the next line carries.
        if (i < stored.length - 1) {
          expect(code).toBe('PRIVACY_LEDGER');
          expect([i + 1, i + 2]).toContain(named);
        }
      }
    }
  });

  it('are found broken when lines are removed, doubled, swapped or begin elsewhere', () => {
    for (let i = 0; i < stored.length - 1; i++) {
      expect(faultOf(stored.toSpliced(i, 1))).toEqual({ code: 'PRIVACY_LEDGER', line: i + 1 });
      expect(faultOf(stored.toSpliced(i, 0, stored[i] as string))).toEqual({ code: 'PRIVACY_LEDGER', line: i + 2 });
    }
    expect(faultOf([]).code).toBe('PRIVACY_LEDGER');
    expect(faultOf([stored[0] as string, stored[0] as string])).toEqual({ code: 'PRIVACY_LEDGER', line: 2 });
  });

  it('are refused where rules are broken under a correct chain', () => {
    const rechain = (lines: readonly string[]): string[] => {
      let previous = '0'.repeat(64);
      return lines.map((line, sequence) => {
        const text = JSON.stringify({ ...JSON.parse(line), previous, sequence });
        previous = hashLine(nodeCrypto, text);
        return text;
      });
    };
    expect(faultOf(rechain(stored)).code).toBe('accepted');
    // A settle without its reserve, a second reserve, a settle above its reserve.
    expect(faultOf(rechain(stored.toSpliced(1, 1)))).toEqual({ code: 'PRIVACY_LEDGER', line: 2 });
    expect(faultOf(rechain([...stored, stored[1] as string]))).toEqual({ code: 'PRIVACY_LEDGER', line: 8 });
    const above = (stored[2] as string).replaceAll('"shares":12', '"shares":5');
    expect(faultOf(rechain(stored.with(2, above)))).toEqual({ code: 'PRIVACY_LEDGER', line: 3 });
    const numbered = (stored.at(-1) as string).replace('"sequence":6', '"sequence":7');
    expect(faultOf(stored.with(-1, numbered))).toEqual({ code: 'PRIVACY_LEDGER', line: 7 });
    // Other spellings of the same content.
    const spaced = (stored[1] as string).replace('"kind":', '"kind": ');
    expect(faultOf(stored.with(1, spaced))).toEqual({ code: 'PRIVACY_LEDGER', line: 2 });
    const extra = (stored[1] as string).replace('{"body"', '{"a":1,"body"');
    expect(faultOf(stored.with(1, extra))).toEqual({ code: 'PRIVACY_LEDGER', line: 2 });
  });

  it('are shorter than a copy elsewhere when the end was cut off', () => {
    const whole = openLedger(nodeCrypto, stored);
    const cut = openLedger(nodeCrypto, stored.slice(0, -2));
    expect(cut.size).toBe(whole.size - 2);
    expect(cut.head).not.toBe(whole.head);
  });

  it('refuse terms that make no sense', () => {
    const wrong = (terms: Partial<LedgerTerms>): string =>
      refusal(() => createLedger(nodeCrypto, { ...TERMS, ...terms }));
    expect(wrong({ budget: { epsilon: 0, delta: 1e-5 } })).toBe('USAGE_RANGE');
    expect(wrong({ budget: { epsilon: 1, delta: 1 } })).toBe('USAGE_RANGE');
    expect(wrong({ views: ['release'] })).toBe('USAGE_RANGE');
    expect(wrong({ views: ['server', 'server'] })).toBe('USAGE_RANGE');
    expect(wrong({ participant: 'me' })).toBe('PRIVACY_LEDGER');
  });
});

describe('server ledger', () => {
  const { participant: _, ...terms } = TERMS;
  const fact = (
    round: number,
    members: readonly string[],
    survivors: number,
    cluster: string | null = null,
  ): ChargeFact => ({
    sid: sid(round),
    members,
    cluster,
    events: eventsFor(survivors),
  });

  it('charges members as their own ledgers do, and nobody else', () => {
    let server = createServerLedger(terms);
    server = settleFact(reserveFact(server, fact(1, ids, 9)), fact(1, ids, 12));
    server = settleFact(reserveFact(server, fact(2, everyoneElse, 9)), fact(2, everyoneElse, 11));
    const { ledger } = book((take, start) => {
      take(settle(nodeCrypto, take(reserve(nodeCrypto, start, reserveOf(1))), settleOf(1)));
    });
    expect(reportParticipant(server, me, 'server')).toEqual(reportLedger(ledger));
    expect(reportParticipant(server, 'ff', 'server').epsilon).toBe(0);
    expect(reportWorst(server, 'server')).toEqual(reportParticipant(server, ids[5] as string, 'server'));
    expect(reportWorst(server, 'server').epsilon).toBeGreaterThan(reportLedger(ledger).epsilon);
    expect(refusal(() => reserveFact(server, fact(2, ids, 12)))).toBe('PRIVACY_LEDGER');
    expect(refusal(() => reserveFact(server, fact(3, [me, me], 12)))).toBe('PRIVACY_LEDGER');
  });

  it('tells clusters apart', () => {
    let server = createServerLedger(terms);
    server = reserveFact(server, fact(1, ids.slice(0, 6), 9, 'a'));
    server = reserveFact(server, fact(2, ids.slice(0, 6), 9, 'b'));
    const [total, a, c] = [null, 'a', 'c'].map((cluster) => reportParticipant(server, me, 'server', cluster).epsilon);
    expect(a).toBeGreaterThan(0);
    expect(total).toBeGreaterThan(a as number);
    expect(c).toBe(0);
  });

  it('names the members whose budget the next session would exceed', () => {
    let server = createServerLedger(terms);
    let round = 1;
    const next = eventsFor(9).server;
    while (membersOverBudget(server, ids, next).length === 0) {
      // The first organization misses every other session.
      server = reserveFact(server, fact(round, round % 2 ? ids : everyoneElse, 9));
      round++;
    }
    expect(membersOverBudget(server, ids, next)).toEqual(everyoneElse);
    expect(membersOverBudget(server, ids, [])).toEqual([]);
    expect(reportWorst(server, 'server').epsilon).toBeLessThanOrEqual(TERMS.budget.epsilon);
  });
});
