import type { z } from 'zod';
import { hashParts, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { sessionGraph } from '../../protocol/graph.ts';
import { LABELS } from '../../protocol/labels.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { Lanes, Profile } from '../../protocol/session.ts';
import { canonicalJson } from '../audit/canonical-json.ts';
import type { Curriculum, LossThreshold } from '../learning/curriculum.ts';
import type { EpochOptions } from '../learning/local-training.ts';
import { bodyLayers, type DenseShape } from '../learning/manifest.ts';
import type { SumMechanism, TermKind } from '../privacy/sum-event.ts';
import { checkAlgorithm } from './algorithm.ts';
import { runConfigSchema } from './config-schema.ts';
import type { EvolvingConfig } from './evolution.ts';
import { checkEvolving } from './evolving-config.ts';
import { groupCount, largestGroup } from './groups.ts';
import type { LabelSource } from './labels.ts';
import { localQueries } from './local-queries.ts';
import { checkModel } from './network-schema.ts';

/** Hidden slots with founding seats, private choice and a public schedule. @see privacy 3.4 */
export interface ClusterConfig {
  /**
   * `hard`: every member trains one slot, chosen privately. `soft`: every record trains the slot that fits it best under
   * the released models; no member chooses, so nothing is charged for it (record-level FedSoft, privacy 3.4).
   * `several`: every member fills `filled` slots (FLSC): those of lowest loss in each step at unit `participant`; at unit
   * `record` those of the last choice, which is as many draws and as many charges.
   * `evolving`: slots split and merge by what probes release; `kept` is their number before the first probe.
   */
  readonly assignment: 'hard' | 'soft' | 'several' | 'evolving';
  /** With `evolving` only. */
  readonly evolving?: EvolvingConfig | undefined;
  readonly filled?: number | undefined;
  /**
   * What the sum of a slot is divided by: an even share of the cohort, or the members that the last choice counted (IFCA as
   * published: slots of any size learn at one pace), noise and all, at least the deviation of that noise and one. Unit
   * `participant`.
   */
  readonly denominator?: 'even' | 'counts' | undefined;
  /**
   * Clusters in the open (mode `open`): names of the organizations of each. Membership is public metadata that this
   * configuration declares; every cluster is a session of its own with its own model.
   */
  readonly open?: readonly (readonly string[])[] | undefined;
  /** Slots while clusters are founded: one for each participant. 0: no founding, `kept` slots from the first step. */
  readonly foundingSlots: number;
  /** Positions of the masked seat lottery; many more than participants, so that clashes are rare. 0 without founding. */
  readonly seatPositions: number;
  /** Slots that stay after the first choice. */
  readonly kept: number;
  /** Training steps before which everybody chooses a slot; the first one ends the founding (0 without one). */
  readonly choiceSteps: readonly number[];
  /** Epsilon of one draw of a choice (exponential mechanism). */
  readonly choiceEpsilon: number;
  /** Bound of a record's loss in the score of a slot. */
  readonly lossBound: number;
  /** Standard deviation of the summed noise on the slot counts, in members. */
  readonly countNoiseStddev: number;
}

/** A clip that follows a quantile of the norms of the updates; `clippingNorm` is the first one. @see privacy F20 */
export interface AdaptiveClipConfig {
  /** Share of the updates that should not be longer than the clip. */
  readonly quantile: number;
  /** Step of the logarithm of the clip for a fraction that is off by one. */
  readonly learningRate: number;
  /** Standard deviation of the summed noise on the count of such updates; a twentieth of the cohort is usual, well above half of z. Units: members. */
  readonly countNoise: number;
  /** Largest clip; 65,536 times the first one if absent. */
  readonly maxNorm?: number | undefined;
}

/** Histograms of the members' accuracies, summed and charged like everything else. @see `metricsSchema`; privacy 3.5 */
export interface MetricsConfig {
  readonly every: number;
  readonly bins: number;
  readonly noiseStddev: number;
}

/** Everything that determines a run; its hash is in every session and in the first entries of the log. */
export interface RunConfig {
  readonly federation: string;
  readonly data: { readonly scenario: string; readonly seed: number };
  /** `sharedLayers` 0 hides the whole model in the slots (mode `hidden`); otherwise the body is shared (`hybrid`). */
  readonly model: DenseShape;
  readonly training: {
    readonly steps: number;
    readonly samplingProbability: number;
    readonly clippingNorm: number;
    readonly momentum: number;
    /** Step size of the first step; it falls linearly to a share of it, a tenth if none is given. */
    readonly stepSize: number;
    readonly lastStepShare?: number | undefined;
    /** Public constant in every denominator, close to the number of records; never the private sum. */
    readonly nominalRecords: number;
    /** Most records one organization may add to a step; bounds the ring. */
    readonly maxRecordsPerStep: number;
    readonly initialSeed: number;
    /** Hash of the weights that all models start from, in hex; draws from `initialSeed` if absent. */
    readonly initialWeights?: string | undefined;
    /** Local epochs of a member at unit `participant`; null at unit `record`, where a step is one gradient a record. */
    readonly local: (EpochOptions & { readonly curriculum?: Curriculum | undefined }) | null;
    /** Which records join a step at unit `record`, by their own loss; all of them if absent. */
    readonly lossThreshold?: LossThreshold | undefined;
    /** Fixed clip if absent. Unit `participant` only: a count over records would break the record rule. */
    readonly adaptiveClip?: AdaptiveClipConfig | undefined;
  };
  readonly clusters: ClusterConfig | null;
  /** What participants compute and keep; FedAvg with the run's own slots and optimizer if absent. */
  readonly algorithm?:
    | {
        readonly id: string;
        readonly options?: Readonly<Record<string, number>> | undefined;
        /** Records of each class, for an algorithm that reads them at unit `record`. */
        readonly labels?: LabelSource | undefined;
      }
    | undefined;
  /** Accuracies that are released while the run goes on; none if absent. */
  readonly metrics?: MetricsConfig | null | undefined;
  readonly personal: {
    /** What is done to the algorithm's personal model at the end. */
    readonly method: 'fine-tuning' | 'none';
    readonly epochs: number;
    readonly batchSize: number;
    readonly stepSize: number;
  };
  readonly privacy: {
    /** What one epsilon protects: a record, or everything that a participant holds. */
    readonly unit: 'record' | 'participant';
    /** `add-remove` for records; `zero-out` for participants, whose number is public. */
    readonly relation: 'add-remove' | 'zero-out';
    /** Unit `record` stands for a person with all its records at one organization: drawn, summed and clipped together. */
    readonly perPerson?: boolean | undefined;
    readonly delta: number;
    readonly targetEpsilon: number;
    /** Law of the noise shares; discrete Gaussian where it is left out. */
    readonly mechanism?: SumMechanism | undefined;
    /**
     * Noise inside each organization, in every local gradient (DP-SGD), in place of shares in the sum. Unit `record` only;
     * `training.samplingProbability` draws the records of each gradient. Units: l2 norm of a record's gradient.
     */
    readonly localNoise?: { readonly clippingNorm: number } | undefined;
    /**
     * How the records of a member are summed at unit `record`: each rounded to integers by itself (left out: `integer`), or by
     * products of matrices that are rounded once, with a bound on what floats err in the charge. @see privacy F13
     */
    readonly terms?: TermKind | undefined;
    /**
     * Noise of training steps that is exact whoever drops out: shares made for the whole cohort, of which the parts that
     * would be missing are added and, as far as nobody was lost, taken off again. Skellam noise only. @see privacy F19
     */
    readonly xnoise?: { readonly tolerance: number } | undefined;
  };
  readonly cohort: {
    readonly participants: number;
    /** Independent groups that a larger cohort is cut into; each is a session with enough noise of its own. */
    readonly groups: number;
    /** `strict`: complete graph, at most 256 in a session; `sparse`: a random graph of neighbours, for more. */
    readonly profile: Profile;
    /** Fewest survivors a session accepts. */
    readonly minSurvivors: number;
    /**
     * Fewest that sessions may come to when members leave because their budgets are used up: shares then carry more noise.
     * `minSurvivors` if absent: the run ends when fewer are left.
     */
    readonly leastSurvivors?: number | undefined;
    readonly minOrgs: number;
    /** Members that may pool what they know with the coordinator. */
    readonly colluders: number;
    /** Members of a census that may be missing later before its slots are no longer trusted. */
    readonly maxLoss: number;
    /** Fewest members of a slot, colluders counted; 0 is no floor, the only one that founding slots of one can keep. */
    readonly minCluster: number;
  };
  readonly encoding: { readonly scale: number; readonly lanes: Lanes };
  readonly deadlineMs: number;
}

/** What was expected, in words. */
function expectedOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'too_small':
      return `expected ${issue.inclusive === true ? '>=' : '>'} ${issue.minimum}`;
    case 'too_big':
      return `expected ${issue.inclusive === true ? '<=' : '<'} ${issue.maximum}`;
    case 'invalid_type':
      return `expected ${issue.expected}`;
    case 'invalid_value':
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'unrecognized_keys':
      return `expected known keys, got ${issue.keys.join(', ')}`;
    default:
      return issue.message;
  }
}

/** One fault: field, what was expected, what came. */
function describeIssue(issue: z.core.$ZodIssue, value: unknown): string {
  const got = issue.path.reduce<unknown>(
    (at, part) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[part] : undefined),
    value,
  );
  const isPlain = ['number', 'string', 'boolean', 'undefined'].includes(typeof got);
  const came = isPlain && issue.code !== 'unrecognized_keys' ? `, got ${String(got)}` : '';
  return `"${issue.path.join('.') || 'config'}" ${expectedOf(issue)}${came}`;
}

/** Slots that are chosen by their losses and start alike would stay alike for ever. */
function checkStarts({ clusters, training }: RunConfig): void {
  if (training.initialWeights === undefined || clusters === null || clusters.foundingSlots > 0) return;
  if (clusters.open === undefined && clusters.assignment !== 'evolving')
    throw new CoveyError(
      'USAGE_CONFIG',
      '"training.initialWeights" expected none with slots that are chosen from the start: they would stay alike',
    );
}

/** With noise inside the organizations the number of gradients in a step is public and nothing else reads a record. */
function checkLocalNoise(
  { clusters, encoding, training }: RunConfig,
  { clippingNorm }: { readonly clippingNorm: number },
  require: (holds: boolean, line: string) => void,
): void {
  const { local } = training;
  require(local?.batches !==
    undefined, '"training.local.batches" expected a number with noise inside the organizations: every minibatch is charged');
  require(local?.curriculum ===
    undefined, '"training.local.curriculum" expected none with noise inside the organizations: it reads losses of raw records');
  require(training.lossThreshold ===
    undefined, '"training.lossThreshold" expected none with noise inside the organizations: it reads losses of raw records');
  const units = encoding.scale * clippingNorm;
  require(units >= 1 &&
    units <=
      2 ** 26, `"privacy.localNoise.clippingNorm" expected 1 to 2^26 units of 1/${encoding.scale}, got ${units}`);
  require(clusters === null ||
    clusters.assignment ===
      'hard', '"clusters.assignment" expected hard with noise inside the organizations: weights would read losses of raw records');
}

/** Records are chosen by rank at unit `participant` and by a public threshold at unit `record`: the record rule. */
function checkCurriculum({ privacy: { localNoise, unit }, training: { local, lossThreshold } }: RunConfig): void {
  if (unit === 'record' && localNoise === undefined && local?.curriculum !== undefined)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"training.local.curriculum" expected "training.lossThreshold" at unit record: which ${local.curriculum.expert === 'global' ? 'records have the lowest losses' : 'losses an expert of the own records gives'} depends on other raw records`,
    );
  if (lossThreshold === undefined) return;
  if (unit === 'participant')
    throw new CoveyError(
      'USAGE_CONFIG',
      '"training.lossThreshold" expected "training.local.curriculum" at unit participant',
    );
  const { from, order, to } = lossThreshold;
  if (order === 'random' && !(from > 0 && from <= 1 && to > 0 && to <= 1))
    throw new CoveyError(
      'USAGE_CONFIG',
      `"training.lossThreshold" expected shares in (0, 1] with random order, got ${from} to ${to}`,
    );
  if (order !== 'random' && (order === 'easy' ? to < from : to > from))
    throw new CoveyError(
      'USAGE_CONFIG',
      `"training.lossThreshold" expected ${order === 'easy' ? 'a rising' : 'a falling'} threshold, got ${from} to ${to}`,
    );
}

/**
 * Checks a configuration and the rules that tie its fields together.
 * @throws CoveyError USAGE_CONFIG with one line that names the field.
 */
export function parseRunConfig(value: unknown): RunConfig {
  const parsed = runConfigSchema.safeParse(value);
  if (!parsed.success)
    throw new CoveyError(
      'USAGE_CONFIG',
      parsed.error.issues
        .map((issue) => describeIssue(issue, value))
        .slice(0, 3)
        .join('; '),
    );
  const config = parsed.data;
  checkModel(config.model);
  checkStarts(config);
  const { participants, groups, minSurvivors, colluders } = config.cohort;
  const { open } = config.clusters ?? {};
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  const { localNoise, relation, unit } = config.privacy;
  const { adaptiveClip, clippingNorm, local, samplingProbability } = config.training;
  checkCurriculum(config);
  if (unit === 'participant') {
    require(config.privacy.perPerson !==
      true, '"privacy.perPerson" expected unit record: a participant is protected with everybody it holds');
    require(localNoise ===
      undefined, '"privacy.localNoise" expected unit record: clipped gradients say nothing of whole participants');
    require(relation === 'zero-out', `"privacy.relation" expected zero-out for participants, got ${relation}`);
    require(local !== null, '"training.local" expected epochs, batchSize and stepSize at unit participant, got null');
    // The server sees who takes part, so cohort sampling amplifies nothing (privacy 3.9).
    require(samplingProbability ===
      1, `"training.samplingProbability" expected 1 at unit participant, got ${samplingProbability}`);
  } else {
    require(relation === 'add-remove', `"privacy.relation" expected add-remove for records, got ${relation}`);
    // More than one step between two releases makes a record's term depend on other raw records (record rule).
    if (localNoise === undefined) require(local === null, '"training.local" expected null at unit record');
    else checkLocalNoise(config, localNoise, require);
  }
  if (adaptiveClip !== undefined) {
    require(unit === 'participant', `"training.adaptiveClip" expected a fixed clip at unit record`);
    require(config.clusters?.open ===
      undefined, '"training.adaptiveClip" expected a fixed clip with clusters in the open');
    const { maxNorm = clippingNorm } = adaptiveClip;
    require(maxNorm >=
      clippingNorm, `"training.adaptiveClip.maxNorm" expected at least "clippingNorm" ${clippingNorm}, got ${maxNorm}`);
  }
  // Every session must be able to run with what its group has.
  const least = Math.min(...(open?.map((names) => names.length) ?? [Math.floor(participants / groups)]));
  const most = largestGroup(config);
  const inGroup = groupCount(config) === 1 ? 'participants' : 'participants of a group';
  const isStrict = config.cohort.profile === 'strict';
  const limit = isStrict ? LIMITS.cohort : LIMITS.sparseCohort;
  require(most <= limit, `"cohort.groups" expected at most ${limit} participants in each, got ${most}`);
  require(minSurvivors <= least, `"cohort.minSurvivors" expected at most ${least} ${inGroup}, got ${minSurvivors}`);
  require(minSurvivors >
    colluders, `"cohort.minSurvivors" expected more than ${colluders} colluders, got ${minSurvivors}`);
  const { leastSurvivors = minSurvivors, minOrgs, profile } = config.cohort;
  const floor = Math.max(minOrgs, colluders + 1, config.clusters?.open === undefined ? 0 : config.cohort.minCluster);
  require(leastSurvivors <= minSurvivors &&
    leastSurvivors >=
      Math.min(
        floor,
        minSurvivors,
      ), `"cohort.leastSurvivors" expected ${floor} to ${minSurvivors} (minOrgs, more than the colluders, at most minSurvivors), got ${leastSurvivors}`);
  // Neighbours of the sparse graph are counted for the whole cohort.
  require(profile === 'strict' ||
    leastSurvivors === minSurvivors, '"cohort.leastSurvivors" expected none with profile sparse');
  // Strict profile: 3c < |U1| for the smallest cohort that could be accepted. All colluders may sit in one group.
  require(!isStrict ||
    3 * colluders < least, `"cohort.colluders" expected less than a third of ${least} ${inGroup}, got ${colluders}`);
  if (isFloatBounded(config)) {
    require(unit ===
      'record', '"privacy.terms" expected integer at unit participant: its one update is rounded within a bound of its own');
    require(localNoise ===
      undefined, '"privacy.terms" expected integer with noise inside the organizations: their gradients are summed as integers');
  }
  const { xnoise } = config.privacy;
  if (xnoise !== undefined) {
    require(localNoise ===
      undefined, '"privacy.xnoise" expected shares of noise in the sum, got noise inside the organizations');
    require(config.cohort.leastSurvivors ===
      undefined, '"privacy.xnoise" expected a cohort that does not shrink, got cohort.leastSurvivors');
    const mechanism = mechanismOf(config);
    require(mechanism === 'skellam', `"privacy.xnoise" expected privacy.mechanism skellam, got ${mechanism}`);
    require(xnoise.tolerance <=
      most -
        minSurvivors, `"privacy.xnoise.tolerance" expected at most ${most - minSurvivors} (${inGroup} less minSurvivors), got ${xnoise.tolerance}`);
  }
  if (!isStrict) {
    const dropped = least - minSurvivors;
    require(sessionGraph(least, colluders, dropped) !==
      null, `"cohort.profile" expected strict: ${least} ${inGroup} with ${colluders} colluders have no sparse graph`);
  }
  require(groups === 1 ||
    config.clusters === null ||
    (config.clusters.assignment === 'soft' &&
      open === undefined), `"cohort.groups" expected 1 with clusters that are chosen or open, got ${groups}`);
  if (config.clusters !== null) {
    const { minCluster } = config.cohort;
    require(config.clusters.evolving === undefined ||
      config.clusters.assignment ===
        'evolving', `"clusters.evolving" expected evolving assignment, got ${config.clusters.assignment}`);
    const { assignment, choiceSteps, denominator = 'even', foundingSlots, kept, seatPositions } = config.clusters;
    require(denominator === 'even' ||
      (unit === 'participant' &&
        assignment === 'hard' &&
        open ===
          undefined), `"clusters.denominator" expected even where no members are counted or the unit is a record, got ${denominator}`);
    const [firstChoice] = choiceSteps;
    if (open !== undefined) {
      const names = open.flat();
      require(new Set(names).size === names.length, '"clusters.open" expected every organization in one cluster');
      require(names.length ===
        participants, `"clusters.open" expected ${participants} participants, got ${names.length}`);
      require(kept === open.length, `"clusters.kept" expected ${open.length} open clusters, got ${kept}`);
      require(bodyLayers(config.model) === 0, '"model.sharedLayers" expected 0 with open clusters: nothing is shared');
      require(minCluster <=
        minSurvivors, `"cohort.minCluster" expected at most ${minSurvivors} survivors, got ${minCluster}`);
      require(assignment === 'hard' &&
        foundingSlots === 0 &&
        choiceSteps.length === 0, '"clusters.open" expected hard assignment without founding slots and choices');
    } else if (assignment === 'evolving') {
      checkEvolving(config);
    } else if (assignment !== 'hard') {
      const got = `${foundingSlots} founding slots and ${choiceSteps.length} choices`;
      if (assignment === 'several' && unit === 'record')
        require(foundingSlots === 0 &&
          firstChoice === 0, `"clusters.choiceSteps" expected 0 first with several at unit record, got ${got}`);
      else
        require(foundingSlots === 0 &&
          choiceSteps.length ===
            0, `"clusters.assignment" expected no founding and no choices with ${assignment}, got ${got}`);
      require(minCluster ===
        0, `"cohort.minCluster" expected 0 with ${assignment} assignment (no member is in a slot), got ${minCluster}`);
      const { filled = 0 } = config.clusters;
      require(assignment === 'soft' ||
        (filled >= 1 && filled <= kept), `"clusters.filled" expected 1 to ${kept}, got ${filled}`);
    } else if (foundingSlots > 0) {
      // A founding slot holds one organization, so no floor can hold: a site that asks for one refuses such a run.
      require(minCluster === 0, `"cohort.minCluster" expected 0 with founding slots, got ${minCluster}`);
      require(foundingSlots >=
        participants, `"clusters.foundingSlots" expected at least ${participants} (one for each participant) or 0, got ${foundingSlots}`);
      require(kept < foundingSlots, `"clusters.kept" expected fewer than ${foundingSlots} founding slots, got ${kept}`);
      require(seatPositions >= 16, `"clusters.seatPositions" expected at least 16, got ${seatPositions}`);
      require(firstChoice !== undefined &&
        firstChoice > 0, '"clusters.choiceSteps" expected a founding before the first choice, got 0');
    } else {
      // Without a founding nobody has a slot before the first choice.
      require(firstChoice === 0, `"clusters.choiceSteps" expected 0 first without founding slots, got ${firstChoice}`);
    }
    if (foundingSlots === 0) {
      require(seatPositions === 0, `"clusters.seatPositions" expected 0 without founding slots, got ${seatPositions}`);
      require(kept <= LIMITS.slots, `"clusters.kept" expected at most ${LIMITS.slots}, got ${kept}`);
    }
    require(choiceSteps.every(
      (step, i) => i === 0 || step > (choiceSteps[i - 1] ?? 0),
    ), '"clusters.choiceSteps" expected increasing steps');
  }
  checkAlgorithm(config);
  if (localNoise !== undefined) localQueries(config);
  return config;
}

/** Whether the terms of records are summed as products of matrices and rounded once. */
export function isFloatBounded({ privacy }: Pick<RunConfig, 'privacy'>): boolean {
  return privacy.terms === 'float-bounded';
}

/** Law of the noise shares of a run. */
export function mechanismOf({ privacy }: Pick<RunConfig, 'privacy'>): SumMechanism {
  return privacy.mechanism ?? 'discrete-gaussian';
}

/** Whether members send updates of their own training, or sums of terms of single records. */
export function sendsUpdates({ privacy }: Pick<RunConfig, 'privacy'>): boolean {
  return privacy.unit === 'participant' || privacy.localNoise !== undefined;
}

/** Most members of a session of this kind whose loss its noise is made for; none where shares stay as they are. */
export function toleratedDrops({ privacy }: Pick<RunConfig, 'privacy'>, kind: string): number | undefined {
  // Counts and accuracies are few coordinates with noise of their own: there is nothing to be saved.
  return kind === 'train' ? privacy.xnoise?.tolerance : undefined;
}

/** Hash of the canonical form of a configuration, 32 bytes. */
export function configHash(crypto: CryptoProvider, config: RunConfig): Uint8Array {
  return hashParts(crypto, utf8(LABELS.runConfig), utf8(canonicalJson(config)));
}
