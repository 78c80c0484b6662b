import { toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { canonicalJson } from '../audit/canonical-json.ts';
import { type Dataset, datasetHash, type SplitData } from './dataset.ts';

/** One participant of a scenario. Scenarios of images build `train` and `test` anew at each reading. */
export interface ScenarioParticipant extends SplitData {
  readonly name: string;
  /** True cluster or population, for reporting only: no algorithm may read it. */
  readonly group?: number;
  /** What it holds from the middle of a run on, where it drifts. */
  readonly later?: SplitData & { readonly group: number };
}

/** A model that suits the data: a multilayer perceptron, without hidden layers a softmax regression. */
export interface ModelSuggestion {
  readonly inputs: number;
  readonly hidden: readonly number[];
  readonly classes: number;
  /** Layers that clusters share; all but the last if absent. */
  readonly sharedLayers?: number;
  /** Where features are rows of a table of embeddings: how many it has. */
  readonly entries?: number;
}

/** Counts and hash of one data set. Shapes: `classCounts` one count a class. */
export interface DatasetFacts {
  readonly records: number;
  readonly classCounts: readonly number[];
  /** SHA-256 of the canonical bytes (`datasetBytes`), hex. */
  readonly sha256: string;
}

/** What identifies the data of a scenario: the same hash on every machine, or the data are not the same. */
export interface ScenarioManifest {
  readonly scenario: string;
  readonly seed: number;
  readonly options: Readonly<Record<string, string | number>>;
  /** True if the features of a record depend on that record and public values alone (record rule, privacy section 1). */
  readonly recordRule: boolean;
  /** Where the record rule fails: true if features depend on records of the same participant and public values alone. */
  readonly participantRule?: boolean;
  readonly licence: string;
  readonly participants: readonly {
    readonly name: string;
    readonly train: DatasetFacts;
    readonly test: DatasetFacts;
    readonly later?: { readonly train: DatasetFacts; readonly test: DatasetFacts };
  }[];
  /** SHA-256 over the canonical JSON of scenario, seed, options and participants, hex. */
  readonly sha256: string;
}

/** A scenario as an experiment uses it. */
export interface ScenarioData {
  readonly participants: readonly ScenarioParticipant[];
  readonly model: ModelSuggestion;
  readonly manifest: ScenarioManifest;
}

/** What a scenario knows of itself besides its records. */
export type ScenarioFacts = Pick<
  ScenarioManifest,
  'scenario' | 'seed' | 'options' | 'recordRule' | 'participantRule' | 'licence'
>;

function datasetFacts(crypto: Pick<CryptoProvider, 'sha256'>, data: Dataset): DatasetFacts {
  const classCounts = new Array<number>(data.classes).fill(0);
  for (const label of data.labels) classCounts[label] = (classCounts[label] ?? 0) + 1;
  return { records: data.count, classCounts, sha256: datasetHash(crypto, data) };
}

/**
 * Builds the manifest of a scenario. Groups stay out of it: it may be shown to participants and to a server that must not
 * learn them. Cost: hashes every record once; a test set that several participants share is hashed once.
 */
export function buildScenarioManifest(
  crypto: Pick<CryptoProvider, 'sha256'>,
  facts: ScenarioFacts,
  participants: readonly ScenarioParticipant[],
): ScenarioManifest {
  const known = new WeakMap<Dataset, DatasetFacts>();
  const factsOf = (data: Dataset): DatasetFacts => {
    const result = known.get(data) ?? datasetFacts(crypto, data);
    known.set(data, result);
    return result;
  };
  const { scenario, seed, options, recordRule, participantRule, licence } = facts;
  const listed = participants.map((participant) => ({
    name: participant.name,
    train: factsOf(participant.train),
    test: factsOf(participant.test),
    ...(participant.later === undefined
      ? {}
      : { later: { train: factsOf(participant.later.train), test: factsOf(participant.later.test) } }),
  }));
  const sha256 = toHex(crypto.sha256(utf8(canonicalJson({ scenario, seed, options, participants: listed }))));
  const rules = { recordRule, ...(participantRule === undefined ? {} : { participantRule }) };
  return { scenario, seed, options, ...rules, licence, participants: listed, sha256 };
}
