import { equalBytes, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { coordinateCount, encodeParams } from '../../protocol/params.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { type Dataset, unitsOf } from '../../src/data/dataset.ts';
import type { Budget } from '../../src/privacy/accountant.ts';
import type { DatasetBudget } from '../../src/privacy/dataset-ledger.ts';
import { checkRingWidth } from '../../src/privacy/ring-width.ts';
import { largestClip } from '../../src/run/adaptive-clip.ts';
import { isFloatBounded, type RunConfig, sendsUpdates } from '../../src/run/config.ts';
import { GAP_SCALE } from '../../src/run/evolution.ts';
import { LABEL_SCALE } from '../../src/run/labels.ts';
import type { ModelPolicy } from '../../src/run/layout.ts';
import { orderParams, type RunFacts, type SessionOrder } from '../../src/run/order.ts';
import { COUNT_SCALE, trainingSensitivity } from '../../src/run/plan.ts';
import { leastSurvivors } from '../../src/run/shrink.ts';

/**
 * What a site asks of every session; the coordinator can never lower it. What each field means is in the descriptions of
 * `clients/node/config.ts`, which `covey node --help` prints.
 */
export interface SitePolicy extends ModelPolicy {
  readonly maxEpsilon: number;
  readonly budget?: Budget | undefined;
  readonly maxDelta: number;
  readonly minCohort: number;
  readonly minOrgs: number;
  readonly colluders: number;
  readonly minCluster: number;
  readonly minNoiseMultiplier: number;
  readonly openClusters: boolean;
  readonly maxClippingNorm: number;
  readonly perPerson?: boolean | undefined;
  readonly integerTerms?: boolean | undefined;
  readonly sparse: boolean;
  readonly maxRuns?: number | undefined;
  readonly datasetBudget?: DatasetBudget | undefined;
}

/** Budget of the site in a run. */
export function budgetOf(policy: SitePolicy, { privacy }: Pick<RunConfig, 'privacy'>): Budget {
  return policy.budget ?? { epsilon: policy.maxEpsilon, delta: privacy.delta };
}

function refuse(field: string, expected: string, got: string | number): never {
  throw new CoveyError('PRIVACY_POLICY', `"${field}" expected ${expected}, got ${got}`, { field });
}

/**
 * Checks a run before its first session: everything the site's policy says about a task.
 * @throws CoveyError PRIVACY_POLICY naming the first field that the policy refuses.
 */
export function checkRun(policy: SitePolicy, facts: RunFacts): void {
  const { config, plan } = facts;
  const { privacy, cohort, training, clusters } = config;
  if (privacy.targetEpsilon > policy.maxEpsilon)
    refuse('privacy.targetEpsilon', `at most ${policy.maxEpsilon}`, privacy.targetEpsilon);
  if (policy.datasetBudget !== undefined && privacy.unit !== policy.datasetBudget.unit)
    refuse('privacy.unit', `${policy.datasetBudget.unit}, the unit of the data set's budget`, privacy.unit);
  if (policy.perPerson === true && privacy.unit === 'record' && privacy.perPerson !== true)
    refuse('privacy.perPerson', 'persons protected with all their records', 'single records');
  if (policy.integerTerms === true && isFloatBounded(config)) refuse('privacy.terms', 'integer', 'float-bounded');
  if (privacy.delta > policy.maxDelta) refuse('privacy.delta', `at most ${policy.maxDelta}`, privacy.delta);
  if (cohort.minSurvivors < policy.minCohort)
    refuse('cohort.minSurvivors', `at least ${policy.minCohort}`, cohort.minSurvivors);
  if (leastSurvivors(config) < policy.minCohort)
    refuse('cohort.leastSurvivors', `at least ${policy.minCohort}`, leastSurvivors(config));
  if (cohort.minOrgs < policy.minOrgs) refuse('cohort.minOrgs', `at least ${policy.minOrgs}`, cohort.minOrgs);
  if (cohort.colluders < policy.colluders) refuse('cohort.colluders', `at least ${policy.colluders}`, cohort.colluders);
  if (clusters !== null && cohort.minCluster < policy.minCluster)
    refuse('cohort.minCluster', `at least ${policy.minCluster}`, cohort.minCluster);
  if (clusters?.open !== undefined && !policy.openClusters)
    refuse('clusters.open', 'clusters that the server cannot see', 'clusters in the open');
  if (cohort.profile === 'sparse' && !policy.sparse) refuse('cohort.profile', 'strict', cohort.profile);
  const { localNoise } = privacy;
  // With noise in every gradient it is their clip that counts; the update only has to fit the ring.
  const clip = localNoise?.clippingNorm ?? training.clippingNorm;
  const field = localNoise === undefined ? 'training.clippingNorm' : 'privacy.localNoise.clippingNorm';
  if (clip > policy.maxClippingNorm) refuse(field, `at most ${policy.maxClippingNorm}`, clip);
  // An adaptive clip is refused for what it may come to, before it does.
  if (localNoise === undefined && largestClip(config) > policy.maxClippingNorm)
    refuse('training.adaptiveClip.maxNorm', `at most ${policy.maxClippingNorm}`, largestClip(config));
  if (plan.noiseMultiplier < policy.minNoiseMultiplier)
    refuse('noiseMultiplier', `at least ${policy.minNoiseMultiplier}`, plan.noiseMultiplier);
}

/**
 * Checks before the first session that the site holds what the run trains on.
 * @throws CoveyError USAGE_CONFIG
 */
export function checkData({ model, privacy }: RunConfig, data: Dataset): void {
  if (data.featureLength !== model.inputs || data.classes > model.classes)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"data" expected ${model.inputs} features and at most ${model.classes} classes of the run, got ${data.featureLength} and ${data.classes}; hint: compare the description of the table`,
    );
  unitsOf(data, privacy.perPerson === true);
}

/** Name of the first field in which two parameter sets differ. */
function differingField(expected: SessionParams, got: SessionParams): string {
  const text = (value: unknown): string =>
    value instanceof Uint8Array
      ? toHex(value)
      : JSON.stringify(value, (_, v: unknown) => (v instanceof Uint8Array ? toHex(v) : v));
  const keys = Object.keys(expected) as (keyof SessionParams)[];
  return keys.find((key) => text(expected[key]) !== text(got[key])) ?? 'params';
}

/** Whether one coordinate of a session may collect a unit of every record, of everybody. */
function sumsRecords(config: RunConfig, kind: SessionOrder['session']['kind']): boolean {
  if (kind === 'labels') return true;
  return kind === 'train' ? !sendsUpdates(config) : kind === 'gaps' && config.privacy.unit === 'record';
}

/**
 * Checks a session against what the site derives itself from the run: every byte of the parameters must be the same,
 * the received models must hash to `modelHash`, and the ring must hold the largest possible sum.
 * @throws CoveyError PRIVACY_POLICY, PRIVACY_RING_WIDTH
 */
export function checkSession(
  crypto: CryptoProvider,
  facts: RunFacts,
  order: SessionOrder,
  params: SessionParams,
): void {
  const expected = orderParams(crypto, facts, order, params);
  if (!equalBytes(encodeParams(expected), encodeParams(params))) {
    refuse(differingField(expected, params), 'what the run configuration says', 'something else');
  }
  const { config } = facts;
  const members = facts.roster.entries.length;
  const training = order.session.kind === 'train';
  const { kind } = order.session;
  const unitTerm = training
    ? Math.ceil(trainingSensitivity(config, order.models.heads.length, facts.plan.countUnits))
    : kind === 'labels'
      ? LABEL_SCALE
      : kind === 'gaps'
        ? GAP_SCALE
        : COUNT_SCALE;
  checkRingWidth({
    bits: params.ring.bits,
    coordinates: coordinateCount(params),
    largestTerm: unitTerm,
    // At record level one coordinate may collect every record of every member.
    terms: sumsRecords(config, kind) ? members * config.training.maxRecordsPerStep : members,
    noiseVariance: members * params.noise.shareVariance,
  });
}
