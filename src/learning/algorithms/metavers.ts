import { CoveyError } from '../../../protocol/errors.ts';
import type { Algorithm, LocalContext } from '../algorithm.ts';
import { addScaled, biasOffset, descent, epochsOf } from '../local-steps.ts';
import { eachBatch } from '../local-training.ts';
import type { FeatureExtractor, Model } from '../oracle.ts';
import { WHOLE_UPDATE } from './fedavg.ts';

/** Mean features of the records of each class; classes without a record have none. */
interface Prototypes {
  readonly means: Float64Array;
  readonly counts: Float64Array;
}

/** Logit of a class that no record speaks for. */
const NEVER = -1e9;

function extractorOf({ oracle }: LocalContext): FeatureExtractor {
  if (oracle.extractor === undefined)
    throw new CoveyError('USAGE_CONFIG', '"model" expected a body whose features can be read for metavers, got none');
  return oracle.extractor;
}

function prototypesOf(features: Float64Array, labels: Uint8Array, classes: number, length: number): Prototypes {
  const means = new Float64Array(classes * length);
  const counts = new Float64Array(classes);
  labels.forEach((label, row) => {
    counts[label] = (counts[label] as number) + 1;
    for (let k = 0; k < length; k++)
      means[label * length + k] = (means[label * length + k] as number) + (features[row * length + k] as number);
  });
  means.forEach((sum, i) => {
    means[i] = sum / Math.max(1, counts[Math.floor(i / length)] as number);
  });
  return { means, counts };
}

/**
 * Derivatives of the mean query loss by the features of query and support: the cross entropy of a softmax over negative
 * squared distances to the prototypes, whose own class must win by a margin.
 */
function episodeErrors(
  query: { readonly features: Float64Array; readonly labels: Uint8Array },
  support: { readonly labels: Uint8Array } & Prototypes,
  length: number,
  margin: number,
): { readonly query: Float64Array; readonly support: Float64Array } {
  const { means, counts } = support;
  const classes = counts.length;
  const byQuery = new Float64Array(query.features.length);
  const byMean = new Float64Array(means.length);
  query.labels.forEach((label, row) => {
    const logits = new Float64Array(classes).fill(NEVER);
    for (let c = 0; c < classes; c++) {
      if (counts[c] === 0) continue;
      let distance = 0;
      for (let k = 0; k < length; k++)
        distance += ((query.features[row * length + k] as number) - (means[c * length + k] as number)) ** 2;
      logits[c] = -distance - (c === label ? margin : 0);
    }
    const highest = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - highest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let c = 0; c < classes; c++) {
      if (counts[c] === 0) continue;
      const error = ((weights[c] as number) / total - (c === label ? 1 : 0)) / query.labels.length;
      for (let k = 0; k < length; k++) {
        const away = (query.features[row * length + k] as number) - (means[c * length + k] as number);
        byQuery[row * length + k] = (byQuery[row * length + k] as number) - 2 * error * away;
        byMean[c * length + k] = (byMean[c * length + k] as number) + 2 * error * away;
      }
    }
  });
  const bySupport = new Float64Array(support.labels.length * length);
  support.labels.forEach((label, row) => {
    for (let k = 0; k < length; k++)
      bySupport[row * length + k] = (byMean[label * length + k] as number) / (counts[label] as number);
  });
  return { query: byQuery, support: bySupport };
}

/**
 * MetaVers (Lim 2024): the extractor learns from episodes. Each minibatch is cut in a support and a query half; queries are
 * classified by the nearest prototype of the support, with a margin. Heads never exist: a participant's classifier are the
 * prototypes of its own records, which for squared distances are a linear head.
 */
export const metaVers: Algorithm = {
  info: {
    ...WHOLE_UPDATE,
    id: 'metavers',
    title: 'MetaVers',
    source: 'Lim et al. 2024',
    shared: 'extractor',
    local: 'prototypes',
    released: 'extractor',
    recordLevel: { kind: 'local-noise-only', reason: 'prototypes are means of raw support records' },
    options: { margin: { what: 'by which the own prototype must win', least: 0, most: 100, fallback: 0.5 } },
    slots: 'none',
  },
  shares: 'body',
  plainSteps: 'it moves the extractor along the gradients of episodes',
  readsBias: true,
  update(context) {
    const { data, options, random, start } = context;
    const { margin = 0 } = options;
    const extractor = extractorOf(context);
    const { featureLength: length } = extractor;
    const epochs = epochsOf(context);
    const body = start.body.slice();
    const gradient = new Float64Array(body.length);
    eachBatch(data.count, epochs, random, (records) => {
      const half = records.length >> 1;
      if (half === 0) return;
      const support = records.subarray(0, half);
      const labelOf = (record: number): number => data.labels[record] as number;
      const supportLabels = Uint8Array.from(support, labelOf);
      const known = new Set(supportLabels);
      // A query of a class that the support does not show has no prototype to come near.
      const query = records.subarray(half).filter((record) => known.has(labelOf(record)));
      if (query.length === 0) return;
      const features = extractor.features(body, data, support);
      const errors = episodeErrors(
        { features: extractor.features(body, data, query), labels: Uint8Array.from(query, labelOf) },
        { labels: supportLabels, ...prototypesOf(features, supportLabels, data.classes, length) },
        length,
        margin,
      );
      const both = Uint32Array.of(...query, ...support);
      extractor.gradient(body, data, both, Float64Array.of(...errors.query, ...errors.support), gradient);
      addScaled(body, -epochs.stepSize, gradient);
    });
    return { body: descent(start.body, body), head: new Float64Array(0) };
  },
  personal(context): Model {
    const { data, oracle, start } = context;
    const bias = biasOffset(oracle.manifest, 'metavers');
    const extractor = extractorOf(context);
    const { featureLength: length } = extractor;
    const classes = start.head.length - bias;
    const records = Uint32Array.from({ length: data.count }, (_, i) => i);
    const features = extractor.features(start.body, data, records);
    const { means, counts } = prototypesOf(features, data.labels, classes, length);
    const head = new Float64Array(start.head.length);
    for (let c = 0; c < classes; c++) {
      let squares = 0;
      for (let k = 0; k < length; k++) {
        const mean = means[c * length + k] as number;
        // Rows of the kernel are features, columns classes: -|f - m|^2 = 2 f m - |m|^2 up to what all classes share.
        head[k * classes + c] = 2 * mean;
        squares += mean * mean;
      }
      head[bias + c] = counts[c] === 0 ? NEVER : -squares;
    }
    return { body: start.body, head };
  },
};
