import type { RunConfig } from './config.ts';
import { GAP_SCALE, gapsBlock } from './evolution.ts';
import type { MemberState, SiteInputs } from './member-model.ts';
import { bestSlot, lossEngine } from './member-model.ts';
import type { SessionOrder } from './order.ts';

/*
 * How much worse the other half of a trial serves those who are in one half of it.
 *
 * Unit `participant`: the slot is the one of least training loss under the models of this session, the gap
 * (L_other - L_own) / L_own of the mean losses, clipped to [0, 1], beside a one for the slot. Unit `record`: the slot is
 * the charged choice of the probe; every record adds (l_other - l_own) clipped to [-B, B] beside l_own clipped to [0, B],
 * functions of that record and released models alone.
 */

/** The other half of a slot's trial, null without one. */
function otherHalf(trials: readonly (readonly [number, number])[], slot: number): number | null {
  const trial = trials.find((halves) => halves.includes(slot));
  if (trial === undefined) return null;
  return trial[0] === slot ? trial[1] : trial[0];
}

/** A value in integer units, toward zero; what is not a number is nothing. */
function units(value: number, low: number, high: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.trunc(Math.min(high, Math.max(low, value)) * GAP_SCALE);
}

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);

/**
 * What a member adds to the gaps of a probe, without noise. Shapes: gaps of all slots, then what they are measured
 * against. Secrets: the slot and the losses.
 */
export function gapsContribution(
  config: RunConfig,
  order: SessionOrder,
  member: MemberState,
  inputs: SiteInputs,
): Int32Array {
  const { models, trials = [] } = order;
  const { data, oracle } = inputs;
  const slots = models.heads.length;
  const values = new Int32Array(gapsBlock(slots).length);
  const isRecord = config.privacy.unit === 'record';
  const slot = isRecord ? member.slot : data.count > 0 ? bestSlot(models, inputs) : null;
  // A participant without records, or without a slot, is the zero-out neighbour of every other one.
  if (slot === null || data.count === 0) return values;
  const body = Float64Array.from(models.body);
  const lossesOf = (at: number): Float64Array =>
    lossEngine(oracle).losses(body, Float64Array.from(models.heads[at] ?? []), data);
  const other = otherHalf(trials, slot);
  const own = lossesOf(slot);
  const others = other === null ? own : lossesOf(other);
  if (!isRecord) {
    const [ownSum, otherSum] = [sumOf(own), sumOf(others)];
    values[slot] = other === null ? 0 : units((otherSum - ownSum) / ownSum, 0, 1);
    values[slots + slot] = GAP_SCALE;
    return values;
  }
  const { lossBound = 1 } = config.clusters ?? {};
  let [gap, base] = [0, 0];
  own.forEach((loss, record) => {
    if (other !== null) gap += units(((others[record] as number) - loss) / lossBound, -1, 1);
    base += units(loss / lossBound, 0, 1);
  });
  values[slot] = gap;
  values[slots + slot] = base;
  return values;
}
