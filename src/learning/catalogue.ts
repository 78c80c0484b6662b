import { CoveyError } from '../../protocol/errors.ts';
import type { AlgorithmInfo, RecordLevel } from './algorithm.ts';
import type { ModelManifest } from './manifest.ts';

const asIs = (reason: string): RecordLevel => ({ kind: 'as-is', reason });
const localOnly = (reason: string): RecordLevel => ({ kind: 'local-noise-only', reason });

const whole = ({ bodyLength, headLength }: ModelManifest): number => bodyLength + headLength;
const bodyOnly = ({ bodyLength }: ModelManifest): number => bodyLength;
const hybrid = ({ bodyLength, headLength }: ModelManifest, slots: number): number => bodyLength + slots * headLength;

const clipOf =
  (what: string): AlgorithmInfo['participantSensitivity'] =>
  (clippingNorm) => [{ what, l2: clippingNorm }];

const ONE_STEP = 'one gradient of each sampled record at the released point';
const CHOICE = 'the choice of a slot moves the whole contribution: exponential mechanism on the summed clipped losses';
const SEVERAL_STEPS = 'later local steps run through a model that other raw records have moved';

const FEDAVG: Omit<AlgorithmInfo, 'id' | 'title' | 'source'> = {
  shared: 'whole model',
  local: 'nothing',
  released: 'whole model',
  uploadLength: whole,
  participantSensitivity: clipOf('update'),
  recordLevel: asIs(ONE_STEP),
};

/**
 * Every algorithm of the survey with what it shares, releases and costs, and whether it keeps the record rule.
 * `ALGORITHMS` of the registry lists those that run.
 * @see learning design, sections 1 and 1a
 */
export const CATALOGUE: readonly AlgorithmInfo[] = [
  { ...FEDAVG, id: 'fedavg', title: 'FedAvg, one step', source: 'McMahan et al. 2017 (FedSGD)' },
  {
    ...FEDAVG,
    id: 'fedavg-epochs',
    title: 'FedAvg, local epochs',
    source: 'McMahan et al. 2017',
    recordLevel: localOnly(SEVERAL_STEPS),
  },
  { ...FEDAVG, id: 'fedavgm', title: 'FedAvg with server momentum', source: 'Hsu et al. 2019' },
  {
    ...FEDAVG,
    id: 'fedprox',
    title: 'FedProx',
    source: 'Li et al. 2020',
    recordLevel: asIs('its one-step form is one-step FedAvg: the proximal term is zero at the released point'),
  },
  {
    ...FEDAVG,
    id: 'scaffold',
    title: 'SCAFFOLD',
    source: 'Karimireddy et al. 2020',
    local: 'control variate',
    recordLevel: localOnly('the local control variate depends on raw records and enters every step'),
  },
  {
    ...FEDAVG,
    id: 'ditto',
    title: 'Ditto',
    source: 'Li et al. 2021',
    local: 'personal model',
    recordLevel: asIs(`${ONE_STEP}; the personal model is never read by it`),
  },
  {
    ...FEDAVG,
    id: 'fedavg-ft',
    title: 'FedAvg with fine-tuning',
    source: 'Collins et al. 2022',
    local: 'tuned model',
    recordLevel: asIs(`${ONE_STEP}; the tuned model is never read by it`),
  },
  {
    ...FEDAVG,
    id: 'fedrep',
    title: 'FedRep',
    source: 'Collins et al. 2021',
    shared: 'body',
    local: 'head',
    released: 'body',
    uploadLength: bodyOnly,
    recordLevel: localOnly('the gradient of the body runs through a head trained on raw records'),
  },
  {
    ...FEDAVG,
    id: 'fedper',
    title: 'FedPer',
    source: 'Arivazhagan et al. 2019',
    shared: 'body',
    local: 'head',
    released: 'body',
    uploadLength: bodyOnly,
    recordLevel: localOnly('the gradient of the body runs through a head trained on raw records'),
  },
  {
    ...FEDAVG,
    id: 'fedrod',
    title: 'FedRoD',
    source: 'Chen and Chao 2021',
    shared: 'body and generic head',
    local: 'personal head, label counts',
    recordLevel: {
      kind: 'with-charge',
      charge: 'histogram',
      reason: 'the balanced softmax needs label counts: a noisy histogram, or a public prior',
    },
  },
  {
    ...FEDAVG,
    id: 'per-fedavg',
    title: 'Per-FedAvg',
    source: 'Finn et al. 2017, Fallah et al. 2020',
    local: 'adapted model',
    recordLevel: localOnly('the inner step runs on other raw records'),
  },
  {
    ...FEDAVG,
    id: 'reptile',
    title: 'Reptile',
    source: 'Nichol et al. 2018',
    local: 'adapted model',
    recordLevel: localOnly(SEVERAL_STEPS),
  },
  {
    ...FEDAVG,
    id: 'metavers',
    title: 'MetaVers',
    source: 'Lim et al. 2024',
    shared: 'extractor',
    local: 'prototypes',
    released: 'extractor',
    uploadLength: bodyOnly,
    recordLevel: localOnly('prototypes are means of raw support records'),
  },
  {
    id: 'ifca',
    title: 'IFCA in hybrid hidden slots',
    source: 'Ghosh et al. 2020',
    shared: 'body and the head of the own slot',
    local: 'slot, losses',
    released: 'body, one head for each slot, noisy counts at a census',
    uploadLength: hybrid,
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'count (census only)', l2: 1 },
    ],
    recordLevel: { kind: 'with-charge', charge: 'exponential-mechanism', reason: CHOICE },
  },
  {
    id: 'ifca-ft',
    title: 'IFCA in hybrid hidden slots with fine-tuning',
    source: 'Ghosh et al. 2020, Collins et al. 2022',
    shared: 'body and the head of the own slot',
    local: 'slot, losses, tuned model',
    released: 'body, one head for each slot, noisy counts at a census',
    uploadLength: hybrid,
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'count (census only)', l2: 1 },
    ],
    recordLevel: { kind: 'with-charge', charge: 'exponential-mechanism', reason: CHOICE },
  },
  {
    id: 'flsc',
    title: 'FLSC',
    source: 'Li, Li and Varshney 2021',
    shared: 'the n slots of lowest loss, each scaled by 1 / sqrt(n)',
    local: 'slots',
    released: 'one model for each slot',
    uploadLength: (manifest, slots) => slots * whole(manifest),
    participantSensitivity: clipOf('slots'),
    recordLevel: {
      kind: 'with-charge',
      charge: 'exponential-mechanism',
      reason: `${CHOICE}, drawn and charged once for each of the n slots`,
    },
  },
  {
    id: 'fedsoft',
    title: 'FedSoft',
    source: 'Ruan and Joe-Wong 2022',
    shared: 'all slots, weighted',
    local: 'personal model, weights',
    released: 'one model for each slot, sums of weights',
    uploadLength: (manifest, slots) => slots * whole(manifest) + slots,
    participantSensitivity: (clippingNorm) => [
      { what: 'slots and weights, jointly', l2: Math.sqrt(clippingNorm ** 2 + 1) },
    ],
    recordLevel: asIs('each record fills the slot that fits it best under released models'),
  },
  {
    ...FEDAVG,
    id: 'curriculum',
    title: 'Curriculum',
    source: 'Bengio et al. 2009, Vahidian et al. 2023',
    local: 'scores of records',
    recordLevel: {
      kind: 'with-charge',
      charge: 'bounded-sum',
      reason:
        'records may be kept only by a broadcast threshold on the loss under a released expert; quantiles of own losses are not allowed',
    },
  },
  {
    ...FEDAVG,
    id: 'layer-sharing',
    title: 'Shared lower layers',
    source: 'Yosinski et al. 2014',
    shared: 'layers up to l',
    local: 'the other layers',
    released: 'layers up to l',
    uploadLength: bodyOnly,
    recordLevel: asIs(`${ONE_STEP}, through released layers only`),
  },
  {
    ...FEDAVG,
    id: 'q-fedavg',
    title: 'q-FedAvg',
    source: 'Li et al. 2020',
    shared: 'weighted update and its denominator, clipped jointly',
    local: 'loss',
    recordLevel: localOnly('the weight is a power of the own loss, which depends on all raw records'),
  },
  {
    id: 'evolving',
    title: 'Evolving clusters',
    source: 'the open direction of the survey',
    shared: 'slots, counts and clipped gaps for each slot',
    local: 'slot, losses',
    released: 'a changing number of slots',
    uploadLength: hybrid,
    participantSensitivity: (clippingNorm) => [
      { what: 'slots', l2: clippingNorm },
      { what: 'count', l2: 1 },
      { what: 'gap and its count', l2: Math.SQRT2 },
    ],
    recordLevel: {
      kind: 'with-charge',
      charge: 'exponential-mechanism',
      reason: 'every probe is a choice, and the gap a sum of clipped differences of per-record losses',
    },
  },
  {
    id: 'local',
    title: 'Local only',
    source: 'baseline',
    shared: 'nothing',
    local: 'whole model',
    released: 'nothing',
    uploadLength: () => 0,
    participantSensitivity: () => [],
    recordLevel: asIs('nothing is released'),
  },
];

/** Metadata of an algorithm. @throws CoveyError USAGE_CONFIG for an unknown id. */
export function algorithmInfo(id: string): AlgorithmInfo {
  const info = CATALOGUE.find((entry) => entry.id === id);
  if (info === undefined) throw new CoveyError('USAGE_CONFIG', `"algorithm" expected a known id, got ${id}`);
  return info;
}
