import { parseArgs } from 'node:util';
import { ATTACK_METHODS, type AttackMethod, runAttack } from '../experiments/attack.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';

/*
 * How often the auditor accuses an honest run: every method against runs of many seeds whose noise is what they claim. A lower
 * bound at 95 % may pass the true epsilon once in twenty; it may pass the claim, which is above it, less often.
 */

type Size = Omit<Parameters<typeof runAttack>[0], 'crypto' | 'method' | 'seed'>;

const SIZES: Readonly<Record<AttackMethod, Size>> = {
  'one-run': { canaries: 600, steps: 24, targetEpsilon: 8, participants: 8 },
  'one-shot': { canaries: 40, steps: 24, targetEpsilon: 8, participants: 4 },
  membership: { canaries: 120, steps: 24, targetEpsilon: 8, participants: 6 },
  'two-worlds': { canaries: 400, steps: 1, targetEpsilon: 8, participants: 4 },
};

const { values } = parseArgs({
  options: { seeds: { type: 'string', default: '40' }, first: { type: 'string', default: '1' } },
});
const [seeds, first] = [Number(values.seeds), Number(values.first)];

let accused = 0;
for (const method of ATTACK_METHODS) {
  const runs = Array.from({ length: seeds }, (_, i) => {
    const { claim, epsilonLowerBound } = runAttack({ ...SIZES[method], method, seed: first + i, crypto: nodeCrypto });
    return { claimed: claim.epsilon, bound: epsilonLowerBound };
  });
  const above = runs.filter(({ bound, claimed }) => bound > claimed).length;
  const bounds = runs.map(({ bound }) => bound).sort((a, b) => a - b);
  const at = (part: number): string => (bounds[Math.round(part * (seeds - 1))] ?? Number.NaN).toFixed(2);
  const claims = runs.map(({ claimed }) => claimed);
  const claim = Math.max(...claims).toFixed(2);
  console.log(
    `${method}: ${above} of ${seeds} above the claim of ${claim}; bounds ${at(0)} to ${at(1)}, median ${at(0.5)}`,
  );
  accused += above;
}
process.exitCode = accused === 0 ? 0 : 1;
