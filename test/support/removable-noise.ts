import { expect } from 'vitest';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import { coordinateCount } from '../../protocol/params.ts';
import { addWords, packLanes, ringWordCount } from '../../protocol/ring.ts';
import { rankOf } from '../../protocol/roster.ts';
import { baseVariance, componentVariance, totalVarianceOf } from '../../src/privacy/dropout-noise.ts';
import { createSkellam } from '../../src/privacy/skellam.ts';
import { baseNoiseSeed, type World } from './session-world.ts';

/** Values, base noise and the components 1 to D of the survivors, drawn and added here once more. */
function idealOf(world: World, ids: readonly Uint8Array[], members: number, dropped: number): Uint32Array {
  const { lanes } = world.params.ring;
  const total = totalVarianceOf(world.params);
  const sum = new Uint32Array(ringWordCount(coordinateCount(world.params), lanes));
  for (const id of ids) {
    const m = rankOf(world.members, id);
    const vector = (world.values[m] as Int32Array).slice();
    createSkellam(baseVariance(members, total)).add(vector, nodeCrypto.aes256Ctr(baseNoiseSeed(m)));
    for (const { number, seed } of world.components.get(m)?.drawn.slice(0, dropped) ?? []) {
      createSkellam(componentVariance(members, number, total)).add(vector, nodeCrypto.aes256Ctr(seed));
    }
    addWords(sum, packLanes(vector, lanes), lanes);
  }
  return sum;
}

/** The sum is that of the survivors with the base noise and the components 1 to D of each, to the bit. */
export function expectExact(world: World, members: number, dropped: number): void {
  expect(world.abort?.reason).toBeUndefined();
  const { survivors, sum } = world.outcome as NonNullable<World['outcome']>;
  expect(survivors.length).toBe(members - dropped);
  for (const { members: seen } of world.components.values()) expect(seen).toBe(members);
  expect(sum).toEqual(idealOf(world, survivors, members, dropped));
}
