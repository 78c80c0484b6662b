import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { auditOneRun } from '../../src/audit/empirical/one-run.ts';
import { appendRecords } from '../../src/data/dataset.ts';
import { generateDigits } from '../../src/data/digits.ts';
import { createEncoder } from '../../src/privacy/encode.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { trainingBlocks } from '../../src/run/plan.ts';
import { blankRecords, canaryCoordinates, recordCanaryOracle, type SessionClock, tossCoins } from '../canaries.ts';
import {
  type AttackOptions,
  type AttackReport,
  count,
  oracleOf,
  percent,
  report,
  SIGNIFICANCE,
  VIEW_ASSUMPTION,
} from './attack-report.ts';
import { observeRun, type Released, type Site } from './observe.ts';

/** Decodes sums from which their mean over the steps is taken off: noise that was used twice goes with it. */
function decodeChanges(crypto: CryptoProvider, config: RunConfig, { params, sums }: Released): Float64Array[][] {
  const blocks = trainingBlocks(config, 1);
  const mean = new Float64Array(sums[0]?.length ?? 0);
  if (sums.length > 1)
    for (const sum of sums)
      for (let i = 0; i < mean.length; i++) mean[i] = (mean[i] as number) + (sum[i] as number) / sums.length;
  return sums.map((sum, t) => {
    const { clippingNorm, scale, rotationSeed } = (params[t] as SessionParams).encoding;
    const encoder = createEncoder(crypto, { blocks, clippingNorm, scale, rotationSeed });
    return encoder.decode(sum.map((value, i) => value - Math.round(mean[i] as number)));
  });
}

/** Unit record, gradient canaries, guesses on who was in. @see Steinke, Nasr, Jagielski 2023 */
export function attackOneRun(options: AttackOptions, config: RunConfig): AttackReport {
  const { canaries, crypto, participants, seed } = options;
  const oracle = oracleOf(options, config.model);
  const { bodyLength, headLength } = oracle.manifest;
  const most = bodyLength + headLength;
  if (canaries > most)
    throw new CoveyError('USAGE_RANGE', `"canaries" expected at most ${most} for one-run, got ${canaries}`);
  const included = tossCoins(seed, canaries);
  const coordinates = canaryCoordinates(seed, canaries, canaries > bodyLength ? most : bodyLength);
  const clock: SessionClock = { step: 0 };
  const sites = Array.from({ length: participants }, (_, i): Site => {
    const { train } = generateDigits(seed, i);
    const own = [...coordinates].filter((_, j) => j % participants === i && included[j]);
    return {
      data: appendRecords(train, blankRecords(train, own.length)),
      oracle: recordCanaryOracle(oracle, train.count, own, clock),
    };
  });
  const released = observeRun(options, config, sites, clock);
  const changes = decodeChanges(crypto, config, released);
  const matched = [...coordinates].map((k) => {
    let score = 0;
    changes.forEach(([body, head], t) => {
      const value = k < bodyLength ? body?.[k] : head?.[k - bodyLength];
      score += (t % 2 === 0 ? 1 : -1) * (value as number);
    });
    return score;
  });
  // Half of the canaries are in: the mean is the point of indifference, whatever the clip let through.
  const mean = matched.reduce((sum, score) => sum + score, 0) / canaries;
  const scores = matched.map((score) => score - mean);
  const audit = auditOneRun(scores, included, config.privacy.delta, SIGNIFICANCE);
  const { claim } = released;
  const { correct, epsilonLowerBound, guesses } = audit;
  return report({
    method: 'one-run',
    seed,
    canaries,
    claim,
    epsilonLowerBound,
    tried: `${canaries} records with a gradient of our choice, each added by a fair coin; who was in is guessed from the sums of ${count(options.steps, 'step')}`,
    found: `${correct} of the ${guesses} surest guesses are right (${percent(correct / guesses)})`,
    evidence: { guesses, correct },
    assumptions: [
      VIEW_ASSUMPTION,
      'canaries: the guarantee is for every gradient that reads one record and public values, so ours are legitimate',
      'guesses: four shares of the canaries, each tested at a quarter of the error',
    ],
  });
}
