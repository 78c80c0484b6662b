import { encodeParts, hashParts, u32le, utf8 } from './bytes.ts';
import type { CryptoProvider } from './crypto-provider.ts';
import { LABELS } from './labels.ts';
import type { NoiseComponent, SessionParams } from './session.ts';

/*
 * Seeds of removable noise (SPEC section 4, "Removable noise"). The roots s_1, ..., s_T of a member form a hash chain whose
 * end is public: whoever gets s_k can compute every later root and none before it, so that one share a dealer opens all
 * components k > D and no other one.
 */

type Terms = Pick<SessionParams, 'minSurvivors' | 'noise'>;

/** T: roots of a member's chain, each shared among its holders; 0 in sessions without removable noise. */
export function toleranceOf({ noise }: Pick<SessionParams, 'noise'>): number {
  return noise.tolerance ?? 0;
}

/** Components of each member's noise among the n of U2: more than n - minSurvivors can never be lost. */
export function componentCount(params: Terms, members: number): number {
  return Math.max(0, Math.min(toleranceOf(params), members - params.minSurvivors));
}

/** First component that is taken off when D of n are lost, or null where nothing is. */
export function firstRemoved(params: Terms, members: number, dropped: number): number | null {
  return dropped < componentCount(params, members) ? dropped + 1 : null;
}

/** s_{k+1} = H("xnoise", sid, id, s_k). */
function nextRoot(crypto: CryptoProvider, sid: Uint8Array, id: Uint8Array, root: Uint8Array): Uint8Array {
  return hashParts(crypto, utf8(LABELS.noiseChain), sid, id, root);
}

/** `count` roots of a chain from `root` on, which comes first. Secrets: all of them, copies; `root` is the caller's. */
export function chainRoots(
  crypto: CryptoProvider,
  sid: Uint8Array,
  id: Uint8Array,
  root: Uint8Array,
  count: number,
): Uint8Array[] {
  const roots: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    roots.push(i === 0 ? root.slice() : nextRoot(crypto, sid, id, roots[i - 1] as Uint8Array));
  }
  return roots;
}

/** s_{T+1}, which P1 publishes, from s_k with `steps` = T + 1 - k. */
export function chainEnd(
  crypto: CryptoProvider,
  sid: Uint8Array,
  id: Uint8Array,
  root: Uint8Array,
  steps: number,
): Uint8Array {
  let current = root;
  for (let step = 0; step < steps; step++) {
    const next = nextRoot(crypto, sid, id, current);
    if (current !== root) current.fill(0);
    current = next;
  }
  return current.slice();
}

/** AES-256-CTR seeds of components `first` to the last one. Shapes: `root` is s_first. Secrets: the seeds. */
export function componentSeeds(
  crypto: CryptoProvider,
  sid: Uint8Array,
  h2: Uint8Array,
  id: Uint8Array,
  root: Uint8Array,
  first: number,
  last: number,
): NoiseComponent[] {
  const roots = chainRoots(crypto, sid, id, root, last - first + 1);
  return roots.map((current, i) => {
    const info = encodeParts([utf8(LABELS.noiseComponent), h2, id, u32le(first + i)]);
    const seed = crypto.hkdfSha256(current, sid, info, 32);
    current.fill(0);
    return { number: first + i, seed };
  });
}
