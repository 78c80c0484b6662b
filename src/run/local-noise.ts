import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { type Dataset, unitsOf } from '../data/dataset.ts';
import { denseManifest, type ModelManifest } from '../learning/manifest.ts';
import type { GradientOracle } from '../learning/oracle.ts';
import { poissonSample } from '../learning/sampling.ts';
import { eachUnitGradient } from '../learning/unit-gradient.ts';
import { createDiscreteGaussian } from '../privacy/discrete-gaussian.ts';
import { type Block, createEncoder } from '../privacy/encode.ts';
import type { DpEvent } from '../privacy/events.ts';
import { checkRingWidth } from '../privacy/ring-width.ts';
import { createSkellam } from '../privacy/skellam.ts';
import { sumEvent } from '../privacy/sum-event.ts';
import { isDrawable } from '../privacy/table-sampler.ts';
import { mechanismOf, type RunConfig } from './config.ts';
import { gradientsOnly, unreadableRecord } from './local-queries.ts';

/*
 * Unit `record` with noise inside the organization (DP-SGD, Abadi et al. 2016): every local gradient is a sum of clipped
 * integer terms over records drawn anew (Poisson), plus noise, over a public constant. The algorithm is handed nothing but
 * such gradients, so whatever it makes of them - heads, control variates, meta-steps, the update it sends - is
 * post-processing, and the charge is the number of gradients that it may ask for. The noise protects against everybody
 * outside, however many collude; nobody outside can check that it was added. @see privacy sections 1, 3.9, F13
 */

/** Noise of one local gradient. Units: `variance` in squared and `sensitivity` in integer units; `queries` in a step. */
export interface LocalNoise {
  readonly queries: number;
  readonly variance: number;
  readonly sensitivity: number;
  readonly dimension: number;
}

/** Blocks of a local gradient, neither padded nor rotated: it never enters a ring. */
function gradientBlocks({ bodyLength, headLength }: ModelManifest): Block[] {
  const lengths = { body: bodyLength, head: headLength };
  return (['body', 'head'] as const)
    .filter((group) => lengths[group] > 0)
    .map((segment) => ({ segment, realLength: lengths[segment], length: lengths[segment], rotated: false }));
}

/** Sensitivity and dimension of a local gradient, with noise of `multiplier` times the sensitivity. */
export function localNoiseOf(config: RunConfig, queries: number, multiplier: number): LocalNoise {
  const { bodyLength, headLength } = denseManifest(config.model);
  const sensitivity = Math.floor(config.encoding.scale * (config.privacy.localNoise?.clippingNorm ?? 0));
  return { queries, sensitivity, variance: (multiplier * sensitivity) ** 2, dimension: bodyLength + headLength };
}

/**
 * Refuses noise that no sampler draws, and sums of gradients that wrap: after the plan, before any record is read.
 * @throws CoveyError PRIVACY_NOISE, PRIVACY_RING_WIDTH
 */
export function checkLocalSums({ training }: RunConfig, local: LocalNoise): void {
  const { dimension, sensitivity, variance } = local;
  if (!isDrawable(variance))
    throw new CoveyError(
      'PRIVACY_NOISE',
      `"privacy.localNoise.clippingNorm" expected noise of 0.5 to 2^25 integer units, got ${Math.sqrt(variance)}; hint: change "encoding.scale"`,
    );
  checkRingWidth({
    // Of the Int32Array that gradients are summed in.
    bits: 32,
    coordinates: dimension,
    largestTerm: sensitivity,
    terms: training.maxRecordsPerStep,
    noiseVariance: variance,
  });
}

/** What one record pays for a step: every gradient is a release of its own, to every viewer, under one share of noise. */
export function localEvents(config: RunConfig, { queries, variance, sensitivity, dimension }: LocalNoise): DpEvent[] {
  const { samplingProbability } = config.training;
  const terms = { sensitivity, dimension, samplingProbability, colluders: 0, mechanism: mechanismOf(config) };
  const event = sumEvent(terms, variance, 1, 'server');
  return [queries === 1 ? event : { kind: 'selfComposed', count: queries, event }];
}

/** Public constant that sums of gradients are divided by: the expected draw of the mean organization. */
function denominatorOf({ cohort, training }: RunConfig): number {
  return (training.samplingProbability * training.nominalRecords) / cohort.participants;
}

/**
 * What the algorithm computes with in place of oracle and records. The arguments `data` and `records` of a gradient are
 * ignored: every one draws its own sample.
 * Random: `sample` and `noise`, keystreams of this contribution alone. Secrets: the records and both streams.
 * @throws CoveyError INTERNAL_INVARIANT, before it answers, for a gradient that was not charged.
 */
export function privateInputs(
  crypto: CryptoProvider,
  config: RunConfig,
  local: LocalNoise,
  raw: { readonly oracle: GradientOracle; readonly data: Dataset },
  streams: { readonly sample: KeyStream; readonly noise: KeyStream },
): { readonly oracle: GradientOracle; readonly data: Dataset } {
  const { manifest } = raw.oracle;
  const { scale } = config.encoding;
  const clippingNorm = config.privacy.localNoise?.clippingNorm ?? 0;
  const blocks = gradientBlocks(manifest);
  const encoder = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed: new Uint8Array(32) });
  const create = mechanismOf(config) === 'skellam' ? createSkellam : createDiscreteGaussian;
  const sampler = create(local.variance);
  const sum = new Int32Array(local.dimension);
  const term = { body: new Float64Array(manifest.bodyLength), head: new Float64Array(manifest.headLength) };
  const units = unitsOf(raw.data, config.privacy.perPerson === true);
  const parts = blocks.map(({ segment }, block) => ({ block, values: segment === 'body' ? term.body : term.head }));
  const unit = 1 / (scale * denominatorOf(config));
  let answered = 0;
  const oracle = gradientsOnly(manifest, (body, head, _data, _records, bodyGradient, headGradient) => {
    answered += 1;
    if (answered > local.queries)
      throw new CoveyError('INTERNAL_INVARIANT', `"queries" expected at most ${local.queries} gradients in a step`);
    sum.fill(0);
    const drawn = poissonSample(units.length, config.training.samplingProbability, streams.sample);
    const owned = Array.from(drawn, (unit) => units[unit] ?? []);
    eachUnitGradient(raw.oracle, raw.data, { body, head }, owned, term, () => encoder.addRecord(sum, parts));
    sampler.add(sum, streams.noise);
    for (let i = 0; i < bodyGradient.length; i++) bodyGradient[i] = (sum[i] as number) * unit;
    for (let i = 0; i < headGradient.length; i++) headGradient[i] = (sum[bodyGradient.length + i] as number) * unit;
    sum.fill(0);
    // The loss of the drawn records is no release.
    return Number.NaN;
  });
  return { oracle, data: unreadableRecord(config.model) };
}
