import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { coordinateCount } from '../../protocol/params.ts';
import { packLanes } from '../../protocol/ring.ts';
import type { NoiseComponent, SessionParams } from '../../protocol/session.ts';
import { keptSlots, placeMember } from '../cluster/census.ts';
import { chooseLowestLoss, chooseSeveralByExponentialMechanism, clippedLossScore } from '../cluster/choice.ts';
import { evolveSlots, type ProbeHistory, renamedSlot } from '../cluster/evolution.ts';
import { drawSeat, seatRank } from '../cluster/founding.ts';
import { type Dataset, unitsOf } from '../data/dataset.ts';
import { accuracyBin } from '../learning/accuracy-histogram.ts';
import type { LocalContext, LocalFit, LocalVectors, ReleasedModels } from '../learning/algorithm.ts';
import { accuracy } from '../learning/evaluation.ts';
import type { GradientOracle } from '../learning/oracle.ts';
import { lossesOfUnits } from '../learning/unit-gradient.ts';
import { createDiscreteGaussian } from '../privacy/discrete-gaussian.ts';
import { addDropoutNoise } from '../privacy/dropout-noise.ts';
import { createSkellam } from '../privacy/skellam.ts';
import { clipCount } from './adaptive-clip.ts';
import { algorithmOf } from './algorithm.ts';
import { type RunConfig, sendsUpdates } from './config.ts';
import { evolutionRule, evolvingOf } from './evolution.ts';
import { gapsContribution } from './gaps.ts';
import { LABEL_SCALE } from './labels.ts';
import { type LocalNoise, privateInputs } from './local-noise.ts';
import { bestSlot, type MemberState, memberHead, releasedModel } from './member-model.ts';
import { METRICS_SCALE, metricsBlock } from './metrics.ts';
import type { SessionOrder } from './order.ts';
import { COUNT_SCALE, choiceDraws, groupOf, openAfterCensus, sessionBlocks } from './plan.ts';
import { recordTerms } from './record-terms.ts';
import { decodeCounts } from './release.ts';
import { streamOf } from './term-plan.ts';
import {
  encodeUpdate,
  localContext,
  orderRandom,
  type Placement,
  placeInSeveral,
  placeInSlot,
  placeInThese,
  placeSoftly,
} from './update.ts';

export type { MemberState };

export const NEW_MEMBER: MemberState = { seat: null, slot: null, choices: [], open: null };

/** Private inputs of a contribution. `seed`: 32 fresh random bytes that serve this contribution only. */
export interface MemberInputs {
  readonly data: Dataset;
  /** Held-out records, which a run with metrics measures on. */
  readonly test?: Dataset | undefined;
  readonly oracle: GradientOracle;
  /** What the algorithm keeps at the site from step to step. */
  readonly local: LocalVectors;
  readonly seed: Uint8Array;
  /** The plan's, in a run with noise inside the organizations. */
  readonly localNoise?: LocalNoise | null | undefined;
  /** Local training of the shared part by a program of the site. */
  readonly fit?: LocalFit | undefined;
  /** Removable parts of this member's noise, where the session has any. `members`: |U2|. */
  readonly noise?: { readonly members: number; readonly components: readonly NoiseComponent[] } | undefined;
}

export interface Contribution {
  readonly words: Uint32Array;
  readonly member: MemberState;
  /** Takes the place of the inputs' once this member is among the survivors. */
  readonly local: LocalVectors;
  /**
   * What the norm of the own update cannot exceed in this session; absent where no update was added. Units: integer units.
   * Secrets: it is for the site's own eyes.
   */
  readonly ownNorm?: number;
}

const toDoubles = (values: Float32Array): Float64Array => Float64Array.from(values);

function seatContribution(
  crypto: CryptoProvider,
  config: RunConfig,
  member: MemberState,
  inputs: MemberInputs,
): { values: Int32Array; member: MemberState } {
  const positions = config.clusters?.seatPositions ?? 0;
  const seat = drawSeat(positions, streamOf(crypto, inputs.seed, 'seat'));
  const values = new Int32Array(positions);
  values[seat] = 1;
  return { values, member: { ...member, seat } };
}

/** What a member drew in a choice, if it did. */
function chosenSlots({ choices }: MemberState, choice: number, draws: number): readonly number[] {
  return choices.slice(choice * draws, (choice + 1) * draws).filter((slot) => slot !== undefined && slot !== null);
}

function choiceContribution(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  member: MemberState,
  inputs: MemberInputs,
): { values: Int32Array; member: MemberState } {
  const choice = order.session.kind === 'choice' ? order.session.choice : 0;
  const { choiceEpsilon, lossBound } = config.clusters ?? { choiceEpsilon: 0, lossBound: 0 };
  const body = toDoubles(order.models.body);
  const lossesOf = (head: Float32Array): Float64Array => inputs.oracle.losses(body, toDoubles(head), inputs.data);
  const units = unitsOf(inputs.data, config.privacy.perPerson === true);
  const draws = choiceDraws(config);
  const choose = (): number[] =>
    config.privacy.unit === 'participant'
      ? [chooseLowestLoss(order.models.heads.map(lossesOf))]
      : chooseSeveralByExponentialMechanism(
          // Sum, not mean: a mean would bring the private number of records in. privacy 3.4
          Float64Array.from(order.models.heads, (head) =>
            clippedLossScore(lossesOfUnits(lossesOf(head), units), lossBound),
          ),
          draws,
          choiceEpsilon,
          lossBound,
          true,
          (draw) => streamOf(crypto, inputs.seed, draw === 0 ? 'choice' : `choice ${draw}`),
        );
  const before = chosenSlots(member, choice, draws);
  const chosen = before.length === draws ? before : choose();
  const values = new Int32Array(order.models.heads.length);
  // A participant without records is the zero-out neighbour of every other one: it counts itself nowhere.
  if (config.privacy.unit === 'record' || inputs.data.count > 0) for (const slot of chosen) values[slot] = COUNT_SCALE;
  const choices = [...member.choices];
  chosen.forEach((slot, draw) => {
    choices[choice * draws + draw] = slot;
  });
  return { values, member: { ...member, choices } };
}

/** A one in the bin of the accuracy of the own released model on the own test records; zeros without any. */
function metricsContribution(
  config: RunConfig,
  order: SessionOrder,
  member: MemberState,
  inputs: MemberInputs,
): Int32Array {
  const { oracle, test } = inputs;
  if (test === undefined) throw new CoveyError('USAGE_CONFIG', '"test" expected test records in a run with metrics');
  const values = new Int32Array(metricsBlock(config).length);
  // A participant without records is the zero-out neighbour of every other one.
  if (test.count === 0) return values;
  const share = accuracy(oracle, releasedModel(config, order.models, member, inputs), test);
  values[accuracyBin(share, values.length)] = METRICS_SCALE;
  return values;
}

/** Where a member's update goes: all slots by weights, several, its own, or none while its own is closed or not chosen. */
function placementOf(
  config: RunConfig,
  models: ReleasedModels,
  { filled: chosen = [], slot }: MemberState,
  own: Float32Array,
  { oracle, data }: MemberInputs,
): Placement {
  const { assignment, filled = 1, open } = config.clusters ?? {};
  // Those of the charged choice; the best ones are free at the other unit only (privacy 3.4).
  if (assignment === 'several' && config.privacy.unit === 'record') return placeInThese(models, chosen);
  if (data.count > 0 && assignment === 'soft') return placeSoftly(models, oracle, data);
  if (data.count > 0 && assignment === 'several') return placeInSeveral(models, oracle, data, filled);
  return open === undefined ? placeInSlot(models.heads.length, slot, own) : placeInSlot(1, 0, own);
}

/** A one for the class of every record: what the algorithm reads of the labels is this sum and no more. */
function labelsContribution(config: RunConfig, { data }: MemberInputs): Int32Array {
  const values = new Int32Array(config.model.classes);
  for (const label of data.labels) values[label] = (values[label] as number) + LABEL_SCALE;
  return values;
}

/** Slot that a member trains: in the open its cluster's, where clusters evolve at unit `participant` the best one anew. */
function ownSlot(
  config: RunConfig,
  { models, session }: SessionOrder,
  member: MemberState,
  inputs: MemberInputs,
): number | null {
  if (config.clusters === null) return 0;
  if (config.clusters.open !== undefined) return groupOf(session);
  // Hidden in the slots of one bounded vector, the choice of a participant is free in every step (privacy 3.4).
  const isFree = evolvingOf(config) !== null && config.privacy.unit === 'participant';
  return isFree && inputs.data.count > 0 ? bestSlot(models, inputs) : isFree ? 0 : member.slot;
}

function trainingContribution(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  member: MemberState,
  inputs: MemberInputs,
): { readonly values: Int32Array; readonly local: LocalVectors; readonly ownNorm?: number } {
  const { models } = order;
  const slots = models.heads.length;
  const blocks = sessionBlocks(config, order.session, slots);
  const slot = ownSlot(config, order, member, inputs);
  const isPlaced = ['hard', 'evolving', undefined].includes(config.clusters?.assignment);
  const own = memberHead(models, slot, member.open);
  const choosesSeveral = config.clusters?.assignment === 'several' && config.privacy.unit === 'record';
  // Not known yet: zeros plus the noise share.
  if ((isPlaced && own === null) || (choosesSeveral && member.filled === undefined))
    return { values: new Int32Array(coordinateCount(params)), local: inputs.local, ownNorm: 0 };
  const placement = placementOf(config, models, { ...member, slot }, own ?? new Float32Array(0), inputs);
  const random = orderRandom(streamOf(crypto, inputs.seed, 'order'));
  const { clippingNorm } = params.encoding;
  const context = { ...localContext(config, models, placement, order.session.step, inputs, random), clippingNorm };
  const countUnits = clipCount(params);
  const noised = noisedContext(crypto, config, context, inputs);
  const sent = sendsUpdates(config)
    ? encodeUpdate(crypto, config, params, blocks, noised, countUnits, streamOf(crypto, inputs.seed, 'rounding'))
    : { values: recordTerms(crypto, config, order, params, placement, inputs), local: inputs.local };
  const { keep } = algorithmOf(config).algorithm;
  if (keep === undefined || inputs.data.count === 0) return sent;
  return { ...sent, local: { ...sent.local, ...keep(context) } };
}

/**
 * The context of the shared part: with noise inside the organization nothing in it has read a record but through noised
 * gradients, vectors that `keep` wrote included.
 */
function noisedContext(
  crypto: CryptoProvider,
  config: RunConfig,
  context: LocalContext,
  inputs: MemberInputs,
): LocalContext {
  if (config.privacy.localNoise === undefined)
    return inputs.fit === undefined ? context : { ...context, fit: inputs.fit };
  const { localNoise, seed } = inputs;
  if (localNoise === null || localNoise === undefined)
    throw new CoveyError('INTERNAL_INVARIANT', '"localNoise" expected the noise of the plan');
  const streams = { sample: streamOf(crypto, seed, 'sample'), noise: streamOf(crypto, seed, 'local-noise') };
  const local = algorithmOf(config).algorithm.keep === undefined ? context.local : {};
  return { ...context, ...privateInputs(crypto, config, localNoise, inputs, streams), local };
}

/** What a member adds to the sum of a session, before its share of the noise. */
function summedValues(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  member: MemberState,
  inputs: MemberInputs,
): Omit<Contribution, 'words'> & { readonly values: Int32Array } {
  const { kind } = order.session;
  const { local } = inputs;
  if (kind === 'seats') return { ...seatContribution(crypto, config, member, inputs), local };
  if (kind === 'labels') return { values: labelsContribution(config, inputs), member, local };
  if (kind === 'choice') return { ...choiceContribution(crypto, config, order, member, inputs), local };
  if (kind === 'gaps') return { values: gapsContribution(config, order, member, inputs), member, local };
  // In the open a group is a cluster, and its slot is the group's number.
  const placed = config.clusters?.open === undefined ? member : { ...member, slot: groupOf(order.session) };
  if (kind === 'metrics') return { values: metricsContribution(config, order, placed, inputs), member: placed, local };
  return { ...trainingContribution(crypto, config, order, params, member, inputs), member: placed };
}

function addNoise(
  crypto: CryptoProvider,
  values: Int32Array,
  params: SessionParams,
  { noise, seed }: Pick<MemberInputs, 'noise' | 'seed'>,
): void {
  const { mechanism, shareVariance, tolerance } = params.noise;
  if (mechanism === 'none') return;
  const stream = streamOf(crypto, seed, 'noise');
  if (tolerance === undefined) {
    const create = mechanism === 'skellam' ? createSkellam : createDiscreteGaussian;
    create(shareVariance).add(values, stream);
    return;
  }
  if (mechanism !== 'skellam' || noise === undefined)
    throw new CoveyError('PRIVACY_NOISE', '"noise" expected the seeds of Skellam noise in a session with a tolerance');
  addDropoutNoise(crypto, values, params, noise.members, noise.components, stream);
}

/**
 * Computes what an organization adds to a session: encoded terms of its records and its share of the noise.
 * Random: a keystream for each use, all from `inputs.seed`, and the seeds of removable noise. Secrets: the words are the
 * unmasked contribution. @throws CoveyError PRIVACY_NOISE if a part of the noise is missing
 */
export function contribute(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  member: MemberState,
  inputs: MemberInputs,
): Contribution {
  const { values, ...added } = summedValues(crypto, config, order, params, member, inputs);
  addNoise(crypto, values, params, inputs);
  return { words: packLanes(values, params.ring.lanes), ...added };
}

/** Reads the released seats: the rank of the own position among the occupied ones is the founding slot. */
export function takeSeat(member: MemberState, sum: Int32Array): MemberState {
  return { ...member, slot: member.seat === null ? null : seatRank(sum, member.seat) };
}

/** Reads the released counts of a choice and finds the own slot among those that stay. */
export function takeChoice(config: RunConfig, member: MemberState, choice: number, sum: Int32Array): MemberState {
  const draws = choiceDraws(config);
  const [chosen, ...others] = chosenSlots(member, choice, draws);
  if (chosen === undefined || config.clusters === null) return member;
  if (config.clusters.assignment === 'several') return { ...member, filled: [chosen, ...others] };
  if (evolvingOf(config) !== null) return { ...member, slot: chosen };
  const counts = decodeCounts(sum);
  const open = openAfterCensus(config, counts);
  if (open !== null) return { ...member, open, slot: placeMember(chosen, open) };
  if (choice > 0) return { ...member, slot: chosen };
  const kept = keptSlots(counts, config.clusters.kept);
  const slot = kept.indexOf(chosen);
  return { ...member, slot: slot < 0 ? null : slot };
}

/**
 * A choice that this member was not counted in: with a floor it trains no slot until the next one, for nobody has checked
 * that its old slot is still large enough. Without a floor it keeps what it had.
 */
export function missChoice(config: RunConfig, member: MemberState, sum: Int32Array): MemberState {
  const open = openAfterCensus(config, decodeCounts(sum));
  return open === null ? member : { ...member, open, slot: open.length === 0 ? 0 : null };
}

/**
 * Reads the released gaps of a probe, counted in or not: the own slot gets its new number, or none if its model was given
 * up; then the member sends zeros until the next choice. `probes`: the history with these gaps at its end.
 */
export function takeGaps(config: RunConfig, member: MemberState, probes: ProbeHistory): MemberState {
  const rule = evolutionRule(config);
  const outcome = rule === null ? undefined : evolveSlots(rule, probes).ended.at(-1);
  if (outcome === undefined || member.slot === null) return member;
  return { ...member, slot: renamedSlot(outcome, member.slot) };
}
