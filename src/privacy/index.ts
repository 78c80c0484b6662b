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
export { eventFromJson, eventKey, eventToJson, type JsonObject, type JsonValue } from './event-json.ts';
export type { DiscreteGaussianEvent, DpEvent, Relation, SkellamEvent } from './events.ts';
export { type EpsilonReport, honestShares, VIEWS, type View } from './views.ts';
