export {
  type Accountant,
  type AccountantOptions,
  type Budget,
  gdpAccountant,
  rdpAccountant,
  restoreAccountant,
  zcdpAccountant,
} from './accountant.ts';
export { gaussianDelta, gaussianEpsilon, gaussianNoiseMultiplier } from './analytic-gaussian.ts';
export { calibrateNoiseMultiplier, type Schedule } from './calibrate.ts';
export type { ChargeStatus, ViewEvents } from './charges.ts';
export {
  type BudgetPeriod,
  type DatasetBudget,
  type DatasetLedger,
  openDatasetLedger,
  periodOf,
  reportDataset,
  reserveDataset,
  type SeenHead,
  settleDataset,
} from './dataset-ledger.ts';
export { createDiscreteGaussian } from './discrete-gaussian.ts';
export { sampleDiscreteGaussianExact } from './discrete-gaussian-exact.ts';
export { type Block, createEncoder, type Encoder, type EncodingSpec, type TermPart } from './encode.ts';
export { eventFromJson, eventKey, eventToJson, type JsonObject, type JsonValue } from './event-json.ts';
export type { DiscreteGaussianEvent, DpEvent, Relation, SkellamEvent } from './events.ts';
export {
  admit,
  admitsAll,
  createFilter,
  type Filter,
  type FilterDeclaration,
  type GateKind,
  readOdometer,
  redeclare,
} from './filter.ts';
export { gateOrder } from './gate-order.ts';
export { paddedLength } from './hadamard.ts';
export {
  createLedger,
  type EvidenceVerifier,
  type Ledger,
  type LedgerStep,
  openLedger,
  type PathEpsilon,
  reportLedger,
  reportPaths,
  reserve,
  restore,
  settle,
  statusOf,
  wouldExceed,
} from './ledger.ts';
export { decodeLine, hashLine, type LedgerEntry, type LedgerTerms, type SurvivorEvidence } from './ledger-entry.ts';
export { type RealisedNoise, realisedNoise, reportSignal, type ShareTarget, shareVariance } from './noise-shares.ts';
export { isPath, type Path } from './paths.ts';
export { type PldOptions, pldAccountant } from './pld.ts';
export { checkRingWidth, chooseScale, type RingLoad, type ScaleProblem } from './ring-width.ts';
export {
  type ChargeFact,
  createServerLedger,
  membersOverBudget,
  reportParticipant,
  reportParticipantPaths,
  reportWorst,
  reserveFact,
  type ServerLedger,
  settleFact,
} from './server-ledger.ts';
export { createSkellam } from './skellam.ts';
export type { NoiseSampler } from './table-sampler.ts';
export { type EpsilonReport, honestShares, VIEWS, type View } from './views.ts';
