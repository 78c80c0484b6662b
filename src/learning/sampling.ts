import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';

/** Words read from the keystream at a time. */
const BLOCK_WORDS = 1024;

/**
 * Draws every record independently with the given probability (Poisson sampling) and returns their indices in order.
 * The probability is a double, hence a fraction m / 2^k: uniform bits are compared with its binary digits, 32 at a time,
 * until they differ, so that the draw has exactly this probability (no rounding of a uniform float).
 * Random: the participant's CSPRNG; a retry needs a fresh stream (privacy 3.9). Secrets: the sample is private.
 * Not guaranteed: constant time; a tie of 32 bits reads more words, with probability 2^-32 for a record.
 * @throws CoveyError USAGE_RANGE unless 0 < probability <= 1.
 */
export function poissonSample(count: number, probability: number, stream: KeyStream): Uint32Array {
  if (!(probability > 0 && probability <= 1)) {
    throw new CoveyError('USAGE_RANGE', `"probability" expected 0 < q <= 1, got ${probability}`);
  }
  const chosen = new Uint32Array(count);
  if (probability === 1) return chosen.map((_, i) => i);
  const block = new Uint8Array(4 * Math.min(BLOCK_WORDS, Math.max(count, 1)));
  const view = new DataView(block.buffer);
  let at = block.length;
  const word = (): number => {
    if (at === block.length) {
      stream.read(block);
      at = 0;
    }
    at += 4;
    return view.getUint32(at - 4, true);
  };
  const isDrawn = (): boolean => {
    // Multiplying by 2^32 and taking the fraction are exact: the digits of the probability, most significant first.
    for (let rest = probability; rest > 0; ) {
      rest *= 0x1_0000_0000;
      const digits = Math.floor(rest);
      const drawn = word();
      if (drawn !== digits) return drawn < digits;
      rest -= digits;
    }
    return false;
  };
  let size = 0;
  for (let record = 0; record < count; record++) if (isDrawn()) chosen[size++] = record;
  return chosen.slice(0, size);
}
