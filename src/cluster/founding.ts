import type { KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';

/**
 * Draws a position of the seat lottery, uniform below `positions` without modulo bias.
 * Random: the position is secret and depends on no data. @throws CoveyError USAGE_RANGE
 */
export function drawSeat(positions: number, stream: KeyStream): number {
  if (!Number.isInteger(positions) || positions < 1 || positions > 0x1_0000) {
    throw new CoveyError('USAGE_RANGE', `"positions" expected 1 to 65536, got ${positions}`);
  }
  const limit = 0x1_0000_0000 - (0x1_0000_0000 % positions);
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  do stream.read(bytes);
  while (view.getUint32(0, true) >= limit);
  return view.getUint32(0, true) % positions;
}

/**
 * Rank of a position among the occupied ones: the founding slot of its owner. Null if the owner's draw is not in the sum
 * (it dropped out, or shares the position), so that nobody founds a slot that belongs to another.
 */
export function seatRank(sum: Int32Array, position: number): number | null {
  if (sum[position] !== 1) return null;
  let rank = 0;
  for (let i = 0; i < position; i++) if ((sum[i] as number) > 0) rank++;
  return rank;
}
