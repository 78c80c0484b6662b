import type { Block } from '../privacy/encode.ts';
import { paddedLength } from '../privacy/hadamard.ts';

/**
 * Blocks of a vector with one shared body and a hidden slot for every head, each padded to a power of two and rotated by
 * itself, so that an empty slot stays exactly zero. Block 0 is the body, block j + 1 is slot j; without a body (logistic
 * regression) block 0 is one padded coordinate.
 */
export function hiddenLayout(model: {
  readonly bodyLength: number;
  readonly headLength: number;
  readonly slots: number;
}): Block[] {
  const block = (segment: string, realLength: number): Block => ({
    segment,
    realLength,
    length: paddedLength(realLength),
    rotated: true,
  });
  return [
    block('body', model.bodyLength),
    ...Array.from({ length: model.slots }, (_, j) => block(`slot-${j}`, model.headLength)),
  ];
}
