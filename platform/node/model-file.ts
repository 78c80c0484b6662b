import { readFile, stat } from 'node:fs/promises';
import { CoveyError } from '../../protocol/errors.ts';
import { LAYERS_CAPS } from '../../src/learning/layers-json.ts';
import { type DenseShape, denseManifest } from '../../src/learning/manifest.ts';
import { readModelDefinition } from '../../src/learning/model-definition.ts';
import { decodeModel } from '../../src/learning/model-files.ts';
import type { Model } from '../../src/learning/oracle.ts';

/** Names, shapes and offsets of the tensors in a weights file, beside its numbers. Units: bytes. */
const MAX_HEADER_BYTES = 2 ** 20;

async function readCapped(path: string, field: string, mostBytes: number): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > mostBytes)
      throw new CoveyError('CODEC_LIMIT', `"${field}" expected at most ${mostBytes} bytes, got ${size}`);
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    if (cause instanceof CoveyError) throw cause;
    throw new CoveyError('USAGE_CONFIG', `"${field}" expected a readable file, got ${path}`, {}, { cause });
  }
}

/** Says which file an error is about. */
function inFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof CoveyError)) throw cause;
    throw new CoveyError(cause.code, `${path}: ${cause.message}`, cause.detail, { cause });
  }
}

/** A model that files describe. `weights`: what it starts from, or null for draws from the public seed. */
export interface LoadedModel {
  readonly shape: DenseShape;
  readonly weights: Model | null;
}

/**
 * Reads a layers model file and, where there are any, the weights that it starts from: a safetensors file, or the weights
 * that belong to the model file.
 * @throws CoveyError USAGE_CONFIG, CODEC_*: one line that names the file, and the layer or field at fault.
 */
export async function loadModelFile(
  path: string,
  options: { readonly sharedLayers?: number | undefined; readonly weights?: string | undefined } = {},
): Promise<LoadedModel> {
  const { sharedLayers, weights } = options;
  const modelJson = await readCapped(path, 'model.file', LAYERS_CAPS.jsonBytes);
  const cut = sharedLayers === undefined ? {} : { sharedLayers };
  const read = (bytes?: Uint8Array): LoadedModel => {
    const files = { modelJson, ...(bytes === undefined ? {} : { weights: bytes }) };
    const { model, shape } = inFile(path, () => readModelDefinition(files, cut));
    return { shape, weights: model };
  };
  if (weights === undefined) return read();
  const bytes = await readCapped(weights, 'model.weights', 8 * LAYERS_CAPS.parameters + MAX_HEADER_BYTES);
  if (!weights.endsWith('.safetensors')) return read(bytes);
  const { shape } = read();
  const { model } = inFile(weights, () => decodeModel(denseManifest(shape), bytes));
  return { shape, weights: model };
}
