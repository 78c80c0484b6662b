import { describe, it } from 'vitest';
import { MOMENTS } from '../support/crash.ts';
import { coordinatorDies, countWrites, nodeDies } from '../support/ledger-crash.ts';

describe('death at every write', () => {
  it.each(MOMENTS)('of the coordinator: no charge is lost on either side (%s)', async (moment) => {
    const writes = await countWrites('coordinator');
    for (let at = 1; at <= writes; at++) await coordinatorDies(at, moment);
  });

  it.each(MOMENTS)('of a node: the run goes on, and both ledgers agree (%s)', async (moment) => {
    const writes = await countWrites('node');
    for (let at = 1; at <= writes; at++) await nodeDies(at, moment);
  });
});
