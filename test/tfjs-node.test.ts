import { expect, it } from 'vitest';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { isCoveyError } from '../protocol/errors.ts';
import { sampleData, sampleModel } from './support/learning-samples.ts';
import { NETWORKS, SINGLE_PRECISION } from './support/networks.ts';
import { describeOracle, expectClose, gradientOf } from './support/oracle-contract.ts';
import { tfjsTrainer } from './support/tfjs-trainer.ts';
import { ALL_OPTIMIZERS, describeTrainer } from './support/trainer-contract.ts';

/** Why the native library is not tested here, or null where it works. */
const missing = await loadTensorRuntime({ candidates: ['tfjs-node'] }).then(
  () => null,
  (error: unknown) => {
    if (isCoveyError(error, 'DEP_TFJS_NATIVE')) return error.message;
    throw error;
  },
);

if (missing !== null) it.skip(`tfjs-node is not tested: ${missing}`, () => {});
else {
  for (const { name, spec, toFeature } of NETWORKS) {
    const featureLength = spec.inputShape.reduce((product, size) => product * size, 1);
    const { gradient, step } = SINGLE_PRECISION;
    describeOracle(`tfjs-node, ${name}`, async () => {
      const oracle = createTfjsOracle(await loadTensorRuntime({ candidates: ['tfjs-node'] }), spec);
      return { oracle, featureLength, toFeature, accuracy: { gradient, derivative: 2e-3, step } };
    });
    describeTrainer(`tfjs-node, ${name}`, {
      make: () => tfjsTrainer('tfjs-node', spec),
      featureLength,
      toFeature,
      assurance: 'computed here',
      accuracy: SINGLE_PRECISION,
      optimizers: ALL_OPTIMIZERS,
    });

    it(`computes the gradients of WebAssembly and keeps no tensor: ${name}`, async () => {
      const native = createTfjsOracle(await loadTensorRuntime({ candidates: ['tfjs-node'] }), spec);
      const { tf } = await loadTensorRuntime({ candidates: ['tfjs-node'] });
      const model = sampleModel(native, 3);
      const data = sampleData(native, featureLength, 6, 4, toFeature);
      const before = tf.memory().numTensors;
      const gradients = [0, 1, 2, 3, 4, 5].map((record) => gradientOf(native, model, data, record));
      expect(tf.memory().numTensors).toBe(before);
      const wasm = createTfjsOracle(await loadTensorRuntime({ candidates: ['tfjs-wasm'] }), spec);
      gradients.forEach((found, record) => {
        expectClose(found, gradientOf(wasm, model, data, record), gradient);
      });
    });
  }
}
