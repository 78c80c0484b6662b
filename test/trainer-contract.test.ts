import { systemClock } from '../platform/node/clock.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import { createOracleTrainer } from '../src/learning/oracle-trainer.ts';
import { NETWORKS, SINGLE_PRECISION } from './support/networks.ts';
import { tfjsTrainer } from './support/tfjs-trainer.ts';
import { ALL_OPTIMIZERS, describeTrainer } from './support/trainer-contract.ts';

const shape: DenseShape = { inputs: 11, hidden: [9, 6], classes: 4 };

describeTrainer('dense oracle', {
  make: async () =>
    createOracleTrainer(createDenseOracle(shape), {
      crypto: nodeCrypto,
      featureLength: shape.inputs,
      classes: shape.classes,
      monotonicMs: systemClock.monotonicMs,
    }),
  featureLength: shape.inputs,
  assurance: 'computed here',
  accuracy: { gradient: 1e-5, derivative: 1e-4, step: 1e-3, rounding: 1e-12 },
  optimizers: ALL_OPTIMIZERS,
});

for (const { name, spec, toFeature } of NETWORKS) {
  describeTrainer(`tfjs-wasm, ${name}`, {
    make: () => tfjsTrainer('tfjs-wasm', spec),
    featureLength: spec.inputShape.reduce((product, size) => product * size, 1),
    toFeature,
    assurance: 'computed here',
    accuracy: SINGLE_PRECISION,
    optimizers: ALL_OPTIMIZERS,
  });
}
