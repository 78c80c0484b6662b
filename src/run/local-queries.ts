import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { createRandom } from '../data/random.ts';
import type { LocalContext, LocalFit } from '../learning/algorithm.ts';
import { bodyLayers, type DenseShape, denseManifest, type ModelManifest } from '../learning/manifest.ts';
import { copyModel, type GradientOracle } from '../learning/oracle.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';

function unavailable(what: string): never {
  throw new CoveyError('PRIVACY_POLICY', `expected gradients alone with noise inside the organization, got ${what}`);
}

/** What an algorithm sees in place of the records: one record that cannot be read. */
export function unreadableRecord({ inputs, classes }: DenseShape): Dataset {
  return {
    count: 1,
    featureLength: inputs,
    classes,
    get features() {
      return unavailable('features of raw records');
    },
    get labels() {
      return unavailable('labels of raw records');
    },
  };
}

/** An oracle whose only answer is a gradient; everything else that reads records is refused. */
export function gradientsOnly(manifest: ModelManifest, meanGradient: GradientOracle['meanGradient']): GradientOracle {
  return {
    manifest,
    meanGradient,
    perRecordGradient: () => unavailable('the gradient of a single record'),
    losses: () => unavailable('losses of raw records'),
    predict: () => unavailable('predictions on raw records'),
    extractor: {
      featureLength: manifest.headLength,
      features: () => unavailable('features of raw records'),
      gradient: () => unavailable('gradients through features of raw records'),
    },
  };
}

/** What one run of the algorithm's local work asks for, on a model of single units. */
function countOnce(config: RunConfig, seed: number, outside: boolean): { queries: number; fits: number } {
  const { algorithm, options } = algorithmOf(config);
  const { network, ...own } = config.model;
  // Of a network the cut alone: how many gradients are asked for follows from the algorithm.
  const dense = { classes: own.classes, hidden: bodyLayers(config.model) > 0 ? [1] : [] };
  const model =
    network === undefined ? { ...own, inputs: 1, hidden: own.hidden.map(() => 1) } : { ...dense, inputs: 1 };
  const manifest = denseManifest(model);
  const start = { body: new Float64Array(manifest.bodyLength), head: new Float64Array(manifest.headLength) };
  let queries = 0;
  let fits = 0;
  const oracle = gradientsOnly(manifest, (_body, _head, _data, _records, body, head) => {
    queries++;
    body.fill(0);
    head.fill(0);
    return Number.NaN;
  });
  const count: LocalFit = (_data, from) => {
    fits++;
    return copyModel(from);
  };
  const context: LocalContext = {
    oracle,
    data: unreadableRecord(model),
    start,
    released: {
      body: Float32Array.from(start.body),
      heads: [Float32Array.from(start.head)],
      extra: (algorithm.extra?.(manifest, options).released ?? []).map((length) => new Float32Array(length)),
    },
    weights: Float64Array.of(1),
    local: {},
    options,
    epochs: config.training.local,
    personal: config.personal,
    clippingNorm: config.training.clippingNorm,
    step: 0,
    steps: config.training.steps,
    random: createRandom(seed),
    fit: outside ? count : undefined,
  };
  algorithm.update?.(context);
  return { queries, fits };
}

/** Draws of minibatch orders that must all lead to the same number of gradients. */
const TRIALS = 8;

/**
 * Gradients that a member's local work asks for in a step: it follows from the algorithm alone.
 * @throws CoveyError PRIVACY_POLICY if the algorithm reads records in another way, USAGE_CONFIG if the number is left to chance.
 */
export function localQueries(config: RunConfig): number {
  const { info } = algorithmOf(config).algorithm;
  const refuse = (error: unknown): never => {
    if (!isCoveyError(error) || error.code !== 'PRIVACY_POLICY') throw error;
    throw new CoveyError('PRIVACY_POLICY', `"algorithm" ${info.id}: ${error.message}`, { algorithm: info.id });
  };
  const counts = new Set<number>();
  try {
    for (let seed = 0; seed < TRIALS; seed++) counts.add(countOnce(config, seed, false).queries);
  } catch (error) {
    refuse(error);
  }
  const [queries = 0] = counts;
  if (counts.size === 1 && queries === 0)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"algorithm" ${info.id}: expected gradients alone with noise inside the organization, got none`,
      { algorithm: info.id },
    );
  if (counts.size !== 1)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"algorithm.options" of ${info.id} expected a fixed number of gradients in a step, got ${[...counts].join(' or ')}`,
    );
  return queries;
}

/**
 * Refuses algorithms whose local work is more than training from a start to an end.
 * @throws CoveyError USAGE_CONFIG
 */
export function checkFits(config: RunConfig): void {
  const { info } = algorithmOf(config).algorithm;
  const refuse = (why: string): never => {
    throw new CoveyError('USAGE_CONFIG', `"trainer" expected dense or tfjs for ${info.id}, got a program: ${why}`);
  };
  try {
    const { fits, queries } = countOnce(config, 0, true);
    if (fits === 0 || queries > 0) refuse('the algorithm needs single gradients');
  } catch (error) {
    if (!isCoveyError(error) || error.message.startsWith('"trainer"')) throw error;
    refuse(error.message);
  }
}
