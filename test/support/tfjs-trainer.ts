import { createNetwork } from '../../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime, type TensorEngine } from '../../clients/trainers/tfjs-runtime.ts';
import { systemClock } from '../../platform/node/clock.ts';
import { nodeCrypto } from '../../platform/node/crypto.ts';
import type { NetworkSpec } from '../../src/learning/network.ts';
import { createOracleTrainer } from '../../src/learning/oracle-trainer.ts';
import type { Trainer } from '../../src/learning/trainer.ts';

/** A trainer of a network on one tensor engine. */
export async function tfjsTrainer(engine: TensorEngine, spec: NetworkSpec): Promise<Trainer> {
  const { inputShape, classes } = createNetwork(spec);
  const oracle = createTfjsOracle(await loadTensorRuntime({ candidates: [engine] }), spec);
  return createOracleTrainer(oracle, {
    crypto: nodeCrypto,
    featureLength: inputShape.reduce((product, size) => product * size, 1),
    classes,
    monotonicMs: systemClock.monotonicMs,
  });
}
