import { isCoveyError } from '../protocol/errors.ts';
import type { Algorithm } from '../src/learning/algorithm.ts';
import { type ClusterConfig, parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';

/*
 * Every combination of an algorithm with a personal part at the end, a way to fill slots, a unit of privacy and a place of noise. What a
 * combination needs beside its names - choices, label counts, minibatches - is filled in; whether it may run is decided by
 * `parseRunConfig` alone, so the table of the documentation says what a coordinator and every site say.
 */

/** Ways to fill slots: none, chosen with and without a founding, several, weighted, evolving, declared in the open. */
export const CLUSTER_MODES = ['none', 'chosen', 'founded', 'several', 'soft', 'evolving', 'open'] as const;
/** Units of privacy; noise is shared in the sum, or local: in every gradient inside an organization. */
export const UNITS = ['participant', 'record', 'record, local noise'] as const;
const PERSONAL_METHODS = ['none', 'fine-tuning'] as const;
/** Organizations of the smallest federation that has two clusters in the open. */
export const ORGANIZATIONS = ['org-1', 'org-2', 'org-3', 'org-4', 'org-5', 'org-6'] as const;
const KEPT = 2;
const EVOLVING = { most: 2, probeSteps: 1, perturbation: 0.3, minGap: 0, minMembers: 1, gapNoiseStddev: 1 };

export interface Combination {
  readonly algorithm: Algorithm;
  readonly personal: (typeof PERSONAL_METHODS)[number];
  readonly clusters: (typeof CLUSTER_MODES)[number];
  readonly unit: (typeof UNITS)[number];
}

/** All combinations of an algorithm. */
export function combinationsOf(algorithm: Algorithm): Combination[] {
  return UNITS.flatMap((unit) =>
    CLUSTER_MODES.flatMap((clusters) => PERSONAL_METHODS.map((personal) => ({ algorithm, personal, clusters, unit }))),
  );
}

function clustersOf({ clusters, unit }: Combination): ClusterConfig | null {
  if (clusters === 'none') return null;
  const isEvolving = clusters === 'evolving';
  const isFounded = clusters === 'founded';
  const isCharged = clusters === 'several' && unit !== 'participant';
  const open = [ORGANIZATIONS.slice(0, 3), ORGANIZATIONS.slice(3)];
  return {
    assignment: clusters === 'several' || clusters === 'soft' || isEvolving ? clusters : 'hard',
    ...(clusters === 'several' ? { filled: KEPT } : {}),
    ...(clusters === 'open' ? { open } : {}),
    foundingSlots: isFounded ? ORGANIZATIONS.length : 0,
    seatPositions: isFounded ? 1_024 : 0,
    kept: isEvolving ? 1 : KEPT,
    ...(isEvolving ? { evolving: EVOLVING } : {}),
    choiceSteps: isFounded || isEvolving ? [1] : clusters === 'chosen' || isCharged ? [0] : [],
    choiceEpsilon: 0.5,
    lossBound: 2,
    countNoiseStddev: unit === 'participant' ? 4 : 0.7,
  };
}

/**
 * The configuration of a combination: two steps of a small model.
 * @throws CoveyError USAGE_CONFIG or PRIVACY_POLICY with the reason why it does not compose.
 */
export function combine(combination: Combination): RunConfig {
  const { algorithm, clusters, personal, unit } = combination;
  const { info } = algorithm;
  const participants = ORGANIZATIONS.length;
  const isRecord = unit !== 'participant';
  const isLocal = unit === 'record, local noise';
  const base = scenarioConfig('digits', {
    seed: 5,
    steps: 2,
    targetEpsilon: 200,
    participants,
    unit: isRecord ? 'record' : 'participant',
  });
  const readsLabels = info.recordLevel.kind === 'with-charge' && info.recordLevel.charge === 'histogram';
  return parseRunConfig({
    ...base,
    // Clusters in the open share nothing.
    model: { inputs: 64, hidden: [4], classes: 10, ...(clusters === 'open' ? { sharedLayers: 0 } : {}) },
    training: {
      ...base.training,
      momentum: 0.5,
      local: isRecord && !isLocal ? null : { epochs: 1, batches: 2, batchSize: 8, stepSize: 0.05 },
    },
    clusters: clustersOf(combination),
    algorithm: { id: info.id, ...(readsLabels && isRecord ? { labels: { noiseStddev: 10 } } : {}) },
    personal: { ...base.personal, method: personal, epochs: 1 },
    privacy: { ...base.privacy, ...(isLocal ? { localNoise: { clippingNorm: 1 } } : {}) },
    cohort: { ...base.cohort, minSurvivors: 3, minOrgs: 3, colluders: 0 },
  });
}

/** Why a combination is refused, in the words that a user sees; null if it runs. */
export function refusalOf(combination: Combination): string | null {
  try {
    combine(combination);
    return null;
  } catch (error) {
    if (isCoveyError(error, 'USAGE_CONFIG') || isCoveyError(error, 'PRIVACY_POLICY')) return error.message;
    throw error;
  }
}
