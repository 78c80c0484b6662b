import { hashParts, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { LABELS } from '../../protocol/labels.ts';
import { bestSlotOfRecord } from '../cluster/soft.ts';
import { type Dataset, type RecordUnits, unitsOf } from '../data/dataset.ts';
import { isWithin, type LossThreshold, thresholdAt } from '../learning/curriculum.ts';
import type { GradientOracle } from '../learning/oracle.ts';
import { poissonSample } from '../learning/sampling.ts';
import { lossesOfUnits } from '../learning/unit-gradient.ts';
import type { Block } from '../privacy/encode.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';
import { labelCounts } from './labels.ts';
import { lossEngine } from './member-model.ts';
import type { SessionOrder } from './order.ts';
import { sessionBlocks } from './plan.ts';
import type { Placement } from './update.ts';

/** Keystream of one use within a contribution. Secrets: `seed`. */
export function streamOf(crypto: CryptoProvider, seed: Uint8Array, purpose: string): KeyStream {
  return crypto.aes256Ctr(hashParts(crypto, utf8(LABELS.contribution), utf8(purpose), seed));
}

/** What the terms of a step are computed from. Secrets: the records and the seed. */
export interface RecordInputs {
  readonly data: Dataset;
  readonly oracle: GradientOracle;
  readonly seed: Uint8Array;
}

/** Units whose gradients are taken at one head and go to the same slots of the vector, each times `weight`. */
interface TermGroup {
  readonly head: Float64Array;
  readonly slots: readonly number[];
  readonly weight: number;
  readonly units: readonly number[];
}

/** The drawn units of a step and where each of them goes: all of it reads one unit, public and released values. */
export interface TermPlan {
  readonly blocks: readonly Block[];
  readonly body: Float64Array;
  readonly units: RecordUnits;
  readonly groups: readonly TermGroup[];
  /** Whether the curriculum leaves this unit out, by its own loss or by lot. */
  isLeftOut(unit: number, loss: number): boolean;
}

/** A record whose own loss is beyond the public threshold of the step; nothing is left out without one. */
function isBeyond(rule: LossThreshold | undefined, threshold: number | null, loss: number): boolean {
  return rule !== undefined && threshold !== null && !isWithin(rule, threshold, loss);
}

const toDoubles = (values: Float32Array): Float64Array => Float64Array.from(values);

/** Draws the units of a step and finds their slots. Random: keystreams `sample` and `curriculum` of the contribution. */
export function planTerms(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  placement: Placement,
  { data, oracle, seed }: RecordInputs,
): TermPlan {
  const { models } = order;
  const soft = config.clusters?.assignment === 'soft';
  const { algorithm } = algorithmOf(config);
  const sharesHead = algorithm.shares === 'model';
  const counts = labelCounts(config, models);
  const body = toDoubles(models.body);
  const heads = models.heads.map(toDoubles);
  const units = unitsOf(data, config.privacy.perPerson === true);
  const headOf = (released: Float64Array): Float64Array =>
    algorithm.recordHead?.(released, counts, oracle.manifest) ?? released;
  const { lossThreshold, samplingProbability, steps } = config.training;
  const threshold = lossThreshold === undefined ? null : thresholdAt(lossThreshold, order.session.step / steps);
  const isRandom = lossThreshold?.order === 'random' && threshold !== null;
  const lottery = isRandom
    ? new Set(poissonSample(units.length, threshold, streamOf(crypto, seed, 'curriculum')))
    : null;
  const drawn = [...poissonSample(units.length, samplingProbability, streamOf(crypto, seed, 'sample'))];
  const groupsOf = (): TermGroup[] => {
    // Record rule: the slot and the term read this record, or this person's, and released values only.
    if (soft) {
      const { losses: lossesOf } = lossEngine(oracle);
      const losses = heads.map((head) => lossesOfUnits(lossesOf(body, head, data), units));
      const best = drawn.map((unit) => bestSlotOfRecord(losses, unit));
      return heads.map((head, slot) => ({
        head: headOf(head),
        slots: sharesHead ? [slot] : [],
        weight: 1,
        units: drawn.filter((_, i) => best[i] === slot),
      }));
    }
    // With a closed slot no weight is set: the body alone learns, through the released cohort-wide head. In the open the only
    // slot of the vector is the cluster's own. Where there are several weights, they are equal.
    const slots = [...placement.weights].flatMap((weight, slot) => (sharesHead && weight > 0 ? [slot] : []));
    const weight = placement.weights[slots[0] ?? 0] ?? 1;
    return [{ head: headOf(placement.head), slots, weight, units: drawn }];
  };
  return {
    blocks: sessionBlocks(config, order.session, models.heads.length),
    body,
    units,
    groups: groupsOf(),
    isLeftOut: (unit, loss) => (lottery !== null ? !lottery.has(unit) : isBeyond(lossThreshold, threshold, loss)),
  };
}
