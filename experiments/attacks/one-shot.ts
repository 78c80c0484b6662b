import type { SessionParams } from '../../protocol/session.ts';
import { auditOneShot } from '../../src/audit/empirical/one-shot.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createEncoder } from '../../src/privacy/encode.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { trainingBlocks } from '../../src/run/plan.ts';
import { blankRecords, canaryDirections, participantCanaryOracle } from '../canaries.ts';
import {
  type AttackOptions,
  type AttackReport,
  count,
  oracleOf,
  report,
  SIGNIFICANCE,
  VIEW_ASSUMPTION,
} from './attack-report.ts';
import { dot, observeRun, type Site } from './observe.ts';

/** Unit participant, canary participants with random unit updates. @see Andrew et al. 2023 */
export function attackOneShot(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = oracleOf(options, config.model);
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
  const { epsilonEstimate, epsilonLowerBound, fitted, unobserved } = audit;
  const law = (mean: number, stddev: number): string => `${mean.toFixed(4)} +- ${stddev.toFixed(4)}`;
  return report({
    method: 'one-shot',
    seed,
    canaries,
    claim: released.claim,
    epsilonLowerBound,
    tried: `${canaries} participants that send a random direction of full length in each of ${count(options.steps, 'step')}; its cosine with the sum of all releases is compared with that of a direction that nobody sent`,
    found: `cosines ${law(fitted.mean, fitted.stddev)}, of unsent directions ${law(0, unobserved.stddev)}; taken at face value that is epsilon ${epsilonEstimate.toFixed(2)}, without any confidence`,
    evidence: {
      meanCosine: fitted.mean,
      stddevCosine: fitted.stddev,
      stddevUnobserved: unobserved.stddev,
      epsilonEstimate,
    },
    assumptions: [VIEW_ASSUMPTION, 'law: cosines are taken as independent and normal'],
  });
}
