import type { RunConfig } from '../src/run/config.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import type { AttackOptions, AttackReport } from './attacks/attack-report.ts';
import { attackMembership } from './attacks/membership.ts';
import { attackOneRun } from './attacks/one-run.ts';
import { attackOneShot } from './attacks/one-shot.ts';
import { attackTwoWorlds } from './attacks/two-worlds.ts';
import { globalConfig } from './comparison.ts';

export { ATTACK_METHODS, type AttackMethod, type AttackOptions, type AttackReport } from './attacks/attack-report.ts';

/** Configuration of the run that a method attacks: the digits scenario with one slot, at the unit of the method. */
function attackConfig(options: AttackOptions): RunConfig {
  const { canaries, idle = 0, method, model, participants, seed, steps, targetEpsilon } = options;
  const oneShot = method === 'one-shot';
  const cohort = participants + idle + (oneShot ? canaries : 0);
  const unit = oneShot ? 'participant' : 'record';
  // Without founding slots, whose number would bound the cohort.
  const algorithm = { id: 'fedavg' };
  const config = scenarioConfig('digits', {
    algorithm,
    model,
    seed,
    steps,
    targetEpsilon,
    participants: cohort,
    unit,
  });
  return unit === 'record' ? globalConfig(config) : config;
}

/**
 * Attacks a run of the embedded digits scenario through the real pipeline - encoding, noise shares, sum, decoding - and
 * sets the lower bound beside the claim. @throws CoveyError USAGE_RANGE for a number of canaries that does not fit.
 */
export function runAttack(options: AttackOptions): AttackReport {
  const config = attackConfig(options);
  switch (options.method) {
    case 'one-run':
      return attackOneRun(options, config);
    case 'two-worlds':
      return attackTwoWorlds(options, config);
    case 'one-shot':
      return attackOneShot(options, config);
    case 'membership':
      return attackMembership(options, config);
  }
}
