import { DIGITS_FEATURES, DIGITS_ORGANIZATIONS, generateDigits } from '../../src/data/digits.ts';
import { FEDPROX_CLASSES, FEDPROX_FEATURES, generateFedProxSynthetic } from '../../src/data/fedprox-synthetic.ts';
import { defineScenario, type Scenario } from './scenario-type.ts';

/** Licence of what no file holds. */
export const GENERATED: string = 'none: generated from the seed';

/** The embedded scenario, what the demo runs. */
export const digitsScenario: Scenario = defineScenario({
  id: 'digits',
  title: 'Generated handwriting of 12 organizations',
  about:
    'Handwriting-like digits, 8 x 8 features after pooling, 4,540 training records in all and 200 test records each. ' +
    'Group: upright, turned or mirrored.',
  licence: GENERATED,
  folders: [],
  options: {},
  async build(seed) {
    return {
      participants: Array.from({ length: DIGITS_ORGANIZATIONS }, (_, i) => {
        return { name: `organization-${i + 1}`, ...generateDigits(seed, i) };
      }),
      model: { inputs: DIGITS_FEATURES, hidden: [48], classes: 10 },
      recordRule: true,
    };
  },
});

/** FedProx's Synthetic(alpha, beta). */
export const fedProxScenario: Scenario = defineScenario({
  id: 'fedprox-synthetic',
  title: "FedProx's Synthetic(alpha, beta)",
  about:
    '30 users whose labels come from softmax models of their own: alpha says how far models differ, beta how far inputs ' +
    'do; 60 features, 10 classes, 50 records and more (lognormal sizes), 90 % for training (Li et al. 2020).',
  licence: GENERATED,
  folders: [],
  options: {
    alpha: { kind: 'number', byDefault: 1, low: 0, high: 100 },
    beta: { kind: 'number', byDefault: 1, low: 0, high: 100 },
  },
  async build(seed, { alpha, beta }) {
    return {
      participants: generateFedProxSynthetic(seed, alpha, beta).map((split, i) => ({ name: `user-${i}`, ...split })),
      model: { inputs: FEDPROX_FEATURES, hidden: [], classes: FEDPROX_CLASSES },
      recordRule: true,
    };
  },
});
