import type { SessionParams } from '../../protocol/session.ts';
import { auditOneShot } from '../../src/audit/empirical/one-shot.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createDenseOracle } from '../../src/learning/dense-oracle.ts';
import { createEncoder } from '../../src/privacy/encode.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { trainingBlocks } from '../../src/run/plan.ts';
import { blankRecords, canaryDirections, participantCanaryOracle } from '../canaries.ts';
import { type AttackOptions, type AttackReport, report, SIGNIFICANCE, VIEW_ASSUMPTION } from './attack-report.ts';
import { dot, observeRun, type Site } from './observe.ts';

/** Unit participant, canary participants with random unit updates. @see Andrew et al. 2023 */
export function attackOneShot(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = createDenseOracle(config.model);
  const { bodyLength, headLength } = oracle.manifest;
  const dimension = bodyLength + headLength;
  const directions = canaryDirections(seed, canaries, dimension);
  const real = Array.from({ length: participants }, (_, i): Site => ({ data: generateDigits(seed, i).train, oracle }));
  const like = (real[0] as Site).data;
  const canarySites = directions.map((direction) => ({
    data: blankRecords(like, 1),
    oracle: participantCanaryOracle(oracle, direction),
  }));
  const released = observeRun(options, config, [...real, ...canarySites], { step: 0 });
  const blocks = trainingBlocks(config, 1);
  const total = new Float64Array(dimension);
  released.sums.forEach((sum, t) => {
    const { clippingNorm, scale, rotationSeed } = (released.params[t] as SessionParams).encoding;
    const parts = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed }).decode(sum);
    let at = 0;
    for (const part of parts) for (const value of part) total[at] = (total[at++] as number) + value;
  });
  const norm = Math.sqrt(total.reduce((sum, value) => sum + value * value, 0));
  const cosines = directions.map((direction) => dot(direction, total) / norm);
  const audit = auditOneShot(cosines, dimension, config.privacy.delta, SIGNIFICANCE);
  const evidence = {
    meanCosine: audit.fitted.mean,
    stddevCosine: audit.fitted.stddev,
    stddevUnobserved: audit.unobserved.stddev,
    epsilonEstimate: audit.epsilonEstimate,
  };
  return report(options, released.claim, audit.epsilonLowerBound, evidence, [
    VIEW_ASSUMPTION,
    'canaries: participants with random unit updates, in every step; cosines with the sum of all releases',
    'law: cosines are taken as independent and normal; the estimate beside the bound carries no confidence',
  ]);
}
