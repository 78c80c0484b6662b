import { networkOf } from '../clients/trainers/tfjs-network.ts';
import { createTfjsOracle } from '../clients/trainers/tfjs-oracle.ts';
import { loadTensorRuntime } from '../clients/trainers/tfjs-runtime.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import type { DenseShape } from '../src/learning/manifest.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';

/**
 * Makes the models of an experiment: a perceptron in plain doubles, a network of layers on WebAssembly, which every
 * installation has, so that a row has the same numbers everywhere. @throws CoveyError DEP_TFJS_NATIVE
 */
export async function oraclesFor(model: DenseShape | undefined): Promise<(model: DenseShape) => GradientOracle> {
  if (model?.network === undefined) return createDenseOracle;
  const runtime = await loadTensorRuntime({ candidates: ['tfjs-wasm'] });
  return (shape) => createTfjsOracle(runtime, networkOf(shape));
}
