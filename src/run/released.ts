import { decodeParts, encodeParts, hashParts, u32le, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import { createRandom } from '../data/random.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import { initialModel } from '../learning/initial-model.ts';
import { denseManifest, type ModelManifest } from '../learning/manifest.ts';
import { algorithmOf } from './algorithm.ts';
import type { RunConfig } from './config.ts';
import { labelLengths } from './labels.ts';

/** Stream of the public generator that draws starting points. */
const INITIAL_STREAM = 0x6d6f_6465;

/** Tensors of the configured model. */
export function modelManifest(config: RunConfig): ModelManifest {
  return denseManifest(config.model);
}

/**
 * Public starting point: the weights that the configuration names, or normal-like draws from a public seed, so that
 * everybody computes the same models. Random: none that protects anyone.
 * @throws CoveyError USAGE_CONFIG without the weights that the configuration names
 */
export function initialModels(
  config: RunConfig,
  slots: number,
  start?: { readonly body: Float32Array; readonly head: Float32Array },
): ReleasedModels {
  const extra = extraLengths(config).map((length) => new Float32Array(length));
  if (config.training.initialWeights !== undefined) {
    if (start === undefined)
      throw new CoveyError(
        'USAGE_CONFIG',
        '"weights" expected the starting weights that "training.initialWeights" names',
      );
    return { body: start.body, heads: Array.from({ length: slots }, () => start.head), extra };
  }
  const random = createRandom(config.training.initialSeed, INITIAL_STREAM);
  const manifest = modelManifest(config);
  const body = Float32Array.from(initialModel(manifest, random).body);
  const heads = Array.from({ length: slots }, () => Float32Array.from(initialModel(manifest, random).head));
  return { body, heads, extra };
}

/** Lengths of the vectors that are broadcast beside the models. */
function extraLengths(config: RunConfig): readonly number[] {
  const { algorithm, options } = algorithmOf(config);
  return [...(algorithm.extra?.(modelManifest(config), options).released ?? []), ...labelLengths(config)];
}

function floatBytes(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setFloat32(4 * i, value, true);
  });
  return bytes;
}

function bytesToFloats(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Canonical bytes of the models: what `modelHash` covers and what travels beside P0. */
export function encodeModels(models: ReleasedModels): Uint8Array {
  return encodeParts([u32le(models.heads.length), ...[models.body, ...models.heads, ...models.extra].map(floatBytes)]);
}

/**
 * Reads models of the configured shape. Lengths are compared before anything is copied.
 * @throws CoveyError CODEC_* for another shape, or numbers that are not finite.
 */
export function decodeModels(config: RunConfig, bytes: Uint8Array): ReleasedModels {
  const { bodyLength, headLength } = modelManifest(config);
  const extras = extraLengths(config);
  const [, ...parts] = decodeParts(bytes);
  const heads = parts.length - 1 - extras.length;
  const expected = [bodyLength, ...new Array<number>(Math.max(0, heads)).fill(headLength), ...extras];
  const wrong = parts.findIndex(({ length }, i) => length !== 4 * (expected[i] as number));
  if (heads < 1 || wrong >= 0)
    throw new CoveyError(
      'CODEC_TYPE',
      `"model" expected the shape of the task, ${bodyLength} + ${headLength} parameters in single precision, got ${parts[Math.max(0, wrong)]?.length ?? 0} bytes in part ${wrong + 1} of ${parts.length}`,
    );
  const vectors = parts.map(bytesToFloats);
  if (!vectors.every((vector) => vector.every(Number.isFinite)))
    throw new CoveyError('CODEC_TYPE', '"model" expected finite numbers');
  return { body: vectors[0] as Float32Array, heads: vectors.slice(1, 1 + heads), extra: vectors.slice(1 + heads) };
}

export function modelsHash(crypto: CryptoProvider, models: ReleasedModels): Uint8Array {
  return hashParts(crypto, utf8(LABELS.models), encodeModels(models));
}
