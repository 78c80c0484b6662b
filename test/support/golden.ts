import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DpEvent, Relation } from '../../src/privacy/events.ts';

/** Folder of the expected numbers: COVEY_GOLDEN, or `shared/golden` beside the repository. */
export const GOLDEN_FOLDER: string =
  process.env['COVEY_GOLDEN'] ?? fileURLToPath(new URL('../../../shared/golden', import.meta.url));

/** Parsed file of expected numbers, or null where the folder is not at hand. */
export function readGolden(name: string): unknown {
  const path = `${GOLDEN_FOLDER}/${name}`;
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

export type Json = Readonly<Record<string, unknown>>;

/** The event of a published case; `"?"` stands for the noise multiplier that is searched. */
export function goldenEvent(json: Json, noiseMultiplier: number = Number.NaN): DpEvent {
  const number = (key: string): number => (json[key] === '?' ? noiseMultiplier : (json[key] as number));
  const nested = (): DpEvent => goldenEvent(json['event'] as Json, noiseMultiplier);
  switch (json['type']) {
    case 'gaussian':
      return { kind: 'gaussian', noiseMultiplier: number('noiseMultiplier') };
    case 'laplace':
      return { kind: 'laplace', noiseMultiplier: number('noiseMultiplier'), symmetric: true };
    case 'discreteGaussian':
      return {
        kind: 'discreteGaussian',
        shares: 1,
        shareVariance: number('sigma') ** 2,
        sensitivity: number('sensitivity'),
        dimension: 1,
        symmetric: true,
      };
    case 'zcdp':
      return { kind: 'zCdp', rho: number('rho'), xi: number('xi') };
    case 'exponentialMechanism':
      return { kind: 'exponentialMechanism', epsilon: number('epsilon'), monotone: false };
    case 'permuteAndFlip':
      return { kind: 'permuteAndFlip', epsilon: number('epsilon') };
    case 'randomizedResponse':
      return { kind: 'randomizedResponse', noiseParameter: number('noiseParameter'), buckets: number('numBuckets') };
    case 'poissonSampled':
      return { kind: 'poissonSampled', probability: number('samplingProbability'), event: nested() };
    case 'sampledWithoutReplacement':
      return {
        kind: 'fixedSizeSampled',
        populationSize: number('sourceDatasetSize'),
        sampleSize: number('sampleSize'),
        event: nested(),
      };
    case 'treeAggregation':
      return {
        kind: 'treeAggregation',
        noiseMultiplier: number('noiseMultiplier'),
        stepCounts: json['stepCounts'] as number[],
      };
    case 'repeatAndSelect': {
      const selection = { kind: 'repeatAndSelect', event: nested(), mean: number('mean') } as const;
      return json['shape'] === 'inf' ? selection : { ...selection, shape: number('shape') };
    }
    case 'epsilonDelta':
      return { kind: 'approximateDp', epsilon: number('epsilon'), delta: number('delta') };
    case 'selfComposed':
      return { kind: 'selfComposed', count: number('count'), event: nested() };
    case 'composed':
      return { kind: 'composed', events: (json['events'] as Json[]).map((e) => goldenEvent(e, noiseMultiplier)) };
    default:
      return { kind: 'unsupported', reason: String(json['type']) };
  }
}

/** Relation of a published case in this project's words. */
export function goldenRelation(neighboring: string): 'add-remove' | 'zero-out' | 'replace-one' {
  if (neighboring === 'replace_one') return 'replace-one';
  return neighboring === 'replace_special' ? 'zero-out' : 'add-remove';
}

/**
 * The event of a published loss-distribution case. There a noise multiplier is relative to adding or removing one
 * record under every relation; here it is relative to the sensitivity of the relation, under replace-one twice as much.
 */
export function goldenLossEvent(json: Json, relation: Relation, noiseMultiplier: number = Number.NaN): DpEvent {
  const number = (key: string): number => json[key] as number;
  const nested = (event: unknown): DpEvent => goldenLossEvent(event as Json, relation, noiseMultiplier);
  const sampled = (event: DpEvent): DpEvent => {
    const probability = (json['samplingProbability'] as number | undefined) ?? 1;
    return probability === 1 ? event : { kind: 'poissonSampled', probability, event };
  };
  switch (json['type']) {
    case 'selfComposed':
      return { kind: 'selfComposed', count: number('count'), event: nested(json['event']) };
    case 'composed':
      return { kind: 'composed', events: (json['events'] as Json[]).map(nested) };
    case 'poissonSampled':
      return { kind: 'poissonSampled', probability: number('samplingProbability'), event: nested(json['event']) };
    case 'gaussian': {
      const z = json['noiseMultiplier'] === '?' ? noiseMultiplier : number('noiseMultiplier');
      return { kind: 'gaussian', noiseMultiplier: relation === 'replace-one' ? z / 2 : z };
    }
    case 'exponentialMechanism':
      // Published as any epsilon-DP mechanism; the event of that name is accounted by its bounded range, which is less.
      return { kind: 'approximateDp', epsilon: number('epsilon'), delta: 0 };
    case 'discreteLaplace':
      return { kind: 'discreteLaplace', noiseParameter: number('noiseParameter'), sensitivity: number('sensitivity') };
    case 'mixtureOfGaussians':
      return {
        kind: 'gaussianMixture',
        noiseStddev: number('standardDeviation'),
        sensitivities: json['sensitivities'] as number[],
        probabilities: json['samplingProbs'] as number[],
      };
    case 'truncatedSubsampledGaussian':
      return {
        kind: 'truncatedPoissonGaussian',
        populationSize: number('datasetSize'),
        probability: number('samplingProbability'),
        maxBatchSize: number('truncatedBatchSize'),
        noiseMultiplier: number('noiseMultiplier'),
      };
    case 'discreteGaussian':
      return sampled(goldenEvent(json));
    case 'skellam1d':
      return sampled({
        kind: 'skellam',
        variance: number('variance'),
        sensitivity: number('shift'),
        dimension: 1,
        symmetric: true,
      });
    case 'sumOfDiscreteGaussians1d':
      return sampled({
        kind: 'discreteGaussian',
        shares: number('numShares'),
        shareVariance: number('localSigma') ** 2,
        sensitivity: number('shift'),
        dimension: 1,
        symmetric: true,
      });
    default:
      return goldenEvent(json, noiseMultiplier);
  }
}
