import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { decodeParts, encodeParts, toHex } from '../../protocol/bytes.ts';
import { merkleRoot } from '../../protocol/merkle.ts';
import { decodeLeaf, encodeLeaf, type ShareLeaf } from '../../protocol/messages.ts';
import type { SessionMessage, SessionParams } from '../../protocol/session.ts';
import { type At, runWatched } from './coalition.ts';
import { accusedBy, bytesFrom, codeOf, nothingOpened, sentBy, signAs } from './malice.ts';
import { createMembers, runSession, type World, type WorldOptions } from './session-world.ts';

const crypto = nodeCrypto;
const VICTIM = 4;
const TOLERANCE = 3;
type Profile = SessionParams['profile'];

/**
 * A session with removable noise, of either profile, in which one member may be lost. `indexOf`: place of one member among
 * those that exchange shares with another one; -1 for none.
 */
interface ForgedSession {
  readonly members: number;
  readonly params: Partial<SessionParams>;
  readonly indexOf: (world: World, of: number, member: number) => number;
}

const flip = (bytes: Uint8Array, at = 0): Uint8Array => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
const excludedOf = (world: World): string[] => (world.abort?.excluded ?? []).map(toHex).sort();

/** A32: members that lie about the seeds of their noise. The same attempts in both profiles, three roots a chain. */
export function forgedSeeds(profile: Profile, { members, params, indexOf }: ForgedSession): void {
  const ids = createMembers(members).members.map(({ id }) => toHex(id));
  const drops = { 'masked-input': ids.slice(0, 1) };
  const run = (more: Partial<WorldOptions> = {}): World => runSession({ members, params, ...more });
  /** Somebody who holds shares of the victim and is not the one that is lost. */
  const holderOf = (world: World): number =>
    ids.findIndex((_, m) => m > 0 && m !== VICTIM && indexOf(world, VICTIM, m) >= 0);
  const redeal = (w: World, message: SessionMessage, change: (parts: Uint8Array[]) => Uint8Array[]): SessionMessage => {
    const parts = change(decodeParts(message.attachment));
    const [id, h1] = decodeParts(message.body) as [Uint8Array, Uint8Array];
    const leaves = parts.filter((_, i) => i % 2 === 0);
    return signAs(w, VICTIM, 'p2', encodeParts([id, h1, merkleRoot(crypto, leaves)]), encodeParts(parts));
  };

  describe(`A32: forged seeds of noise${profile === 'sparse' ? ' (sparse)' : ''}`, () => {
    it('names a member that opens a wrong share of a root, or the share of another one; the sum is right without it', () => {
      const { world: honest, memories } = runWatched({ members, params, drops });
      const liar = holderOf(honest);
      const others: Record<string, (fields: Uint8Array[], own: At<'agreed'>) => Uint8Array[]> = {
        'another share': (fields) => [fields[0]!, fields[1]!, flip(fields[2]!), fields[3]!],
        'another opening': (fields) => [fields[0]!, fields[1]!, fields[2]!, flip(fields[3]!)],
        none: (fields) => fields.slice(0, 2),
        'the root before it': (fields, { held }) => {
          const { share, opening } = held.get(VICTIM)!.roots[0]!;
          return [fields[0]!, fields[1]!, share, opening];
        },
        'one root more': (fields, { held }) => {
          const { share, opening } = held.get(VICTIM)!.roots[2]!;
          return [...fields, share, opening];
        },
      };
      for (const [name, change] of Object.entries(others)) {
        const world = run({
          drops,
          fromMember: (message, from, w) => {
            if (message.type !== 'p5' || from !== liar) return message;
            const entries = decodeParts(message.attachment);
            const at = indexOf(w, liar, VICTIM);
            entries[at] = encodeParts(change(decodeParts(entries[at]!), memories.agreed.get(liar) as At<'agreed'>));
            const bundle = encodeParts(entries);
            const [id, h3] = decodeParts(message.body) as [Uint8Array, Uint8Array];
            return signAs(w, liar, 'p5', encodeParts([id, h3, crypto.sha256(bundle)]), bundle);
          },
        });
        expect(world.outcome?.sum, name).toEqual(honest.outcome?.sum);
        expect(
          world.outcome?.faults.map(({ id, reportedBy }) => [toHex(id), reportedBy]),
          name,
        ).toEqual([[ids[liar], 'coordinator']]);
      }
    });

    it('proves a dealer a liar that shares roots of another chain than it published', () => {
      const world = run({
        fromMember: (message, from, w) => {
          const progress = w.states[from]?.session?.progress;
          if (message.type === 'p1' && from === VICTIM && progress?.stage === 'advertised')
            progress.secrets.noiseRoot.set(bytesFrom('another root'));
          return message;
        },
      });
      expect(world.outcome).toBeNull();
      expect(world.abort).toMatchObject({ code: 'CRYPTO_COMMITMENT', phase: 'unmask' });
      expect(excludedOf(world)).toEqual([ids[VICTIM]]);
      expect(sentBy(world, 'complaint').length).toBe(0);
    });

    it('complains about a dealer whose share of a root misses its commitment, before anything is charged', () => {
      const changes: ((leaf: ShareLeaf) => ShareLeaf)[] = [
        (leaf) => ({ ...leaf, commitmentsX: leaf.commitmentsX.map((c, k) => (k === 1 ? flip(c) : c)) }),
        (leaf) => ({ ...leaf, commitmentsX: leaf.commitmentsX.toReversed() }),
      ];
      for (const change of changes) {
        const world = run({
          fromMember: (message, from, w) => {
            if (message.type !== 'p2' || from !== VICTIM) return message;
            const at = 2 * indexOf(w, VICTIM, holderOf(w));
            return redeal(w, message, (parts) =>
              parts.map((part, i) => (i === at ? encodeLeaf(change(decodeLeaf(part, TOLERANCE))) : part)),
            );
          },
          // The complaint comes before any upload: both stay out.
          toMember: (message, to, w) => (message.type === 'p2-all' && to < holderOf(w) ? null : message),
        });
        const holder = holderOf(world);
        expect(codeOf(world, holder)).toBe('CRYPTO_SHARE');
        expect(accusedBy(world, holder)).toEqual([ids[VICTIM]]);
        expect(excludedOf(world)).toEqual([ids[holder], ids[VICTIM]].sort());
        expect(nothingOpened(world)).toBe(true);
      }
    });

    it('leaves a dealer out that commits to too few or too many roots, or seals none', () => {
      const bundles: ((parts: Uint8Array[]) => Uint8Array[])[] = [
        (parts) =>
          parts.map((p, i) => (i % 2 === 0 ? encodeLeaf({ ...decodeLeaf(p, TOLERANCE), commitmentsX: [] }) : p)),
        (parts) =>
          parts.map((p, i) => {
            if (i % 2 !== 0) return p;
            const leaf = decodeLeaf(p, TOLERANCE);
            return encodeLeaf({ ...leaf, commitmentsX: [...leaf.commitmentsX, leaf.commitmentB] });
          }),
        (parts) => {
          const short = parts.map((p, i) => (i % 2 === 1 ? p.subarray(0, 144) : p));
          return short.map((p, i) =>
            i % 2 === 0 ? encodeLeaf({ ...decodeLeaf(p, TOLERANCE), ciphertextHash: crypto.sha256(short[i + 1]!) }) : p,
          );
        },
      ];
      for (const change of bundles) {
        const world = run({
          fromMember: (message, from, w) =>
            message.type === 'p2' && from === VICTIM ? redeal(w, message, change) : message,
        });
        expect(world.outcome?.u2.map(toHex)).toEqual(ids.filter((_, m) => m !== VICTIM));
        expect(world.outcome?.faults.map(({ id }) => toHex(id))).toEqual([ids[VICTIM]]);
      }
    });

    it('takes no advertisement without a chain where noise is removable, and none with one where it is not', () => {
      const others = ids.filter((_, m) => m !== VICTIM);
      const { noise, ...rest } = params;
      const advertising = (terms: Partial<SessionParams>, change: (fields: Uint8Array[]) => Uint8Array[]): World =>
        run({
          params: terms,
          fromMember: (message, from, w) =>
            message.type === 'p1' && from === VICTIM
              ? signAs(w, VICTIM, 'p1', encodeParts(change(decodeParts(message.body))))
              : message,
        });
      const fields = profile === 'sparse' ? 6 : 5;
      const refused: readonly (readonly [
        string,
        Partial<SessionParams>,
        (parts: Uint8Array[]) => Uint8Array[],
        string,
      ])[] = [
        ['without its chain', params, (parts) => parts.slice(0, -1), 'CODEC_TYPE'],
        ['keys alone', params, (parts) => parts.slice(0, 4), 'CODEC_TYPE'],
        ['fewer keys', params, (parts) => parts.slice(0, 3), 'CODEC_TRUNCATED'],
        ['one field more', params, (parts) => [...parts, bytesFrom('more')], 'CODEC_TRAILING'],
        ['a short chain', params, (parts) => [...parts.slice(0, -1), bytesFrom('short').subarray(1)], 'CODEC_TYPE'],
        [
          'a chain where none is',
          rest,
          (parts) => [...parts, bytesFrom('chain')],
          fields === 6 ? 'CODEC_TRAILING' : 'CODEC_TYPE',
        ],
      ];
      for (const [name, terms, change, code] of refused) {
        const world = advertising(terms, change);
        expect(world.outcome?.u1.map(toHex), name).toEqual(others);
        expect(
          world.outcome?.faults.map((fault) => [toHex(fault.id), fault.code]),
          name,
        ).toEqual([[ids[VICTIM], code]]);
      }
      expect(noise?.tolerance).toBe(TOLERANCE);
    });
  });
}
