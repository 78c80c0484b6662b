import { CoveyError } from '../../protocol/errors.ts';
import { type ModelManifest, tensorLength } from './manifest.ts';
import type { Model } from './oracle.ts';
import { decodeSafetensors, encodeSafetensors, type NamedTensor } from './safetensors.ts';

/** Cuts a flattened model into its named tensors. Units: F32 rounds to single precision, F64 keeps every bit. */
export function modelTensors(manifest: ModelManifest, model: Model, precision: 'F32' | 'F64'): NamedTensor[] {
  if (model.body.length !== manifest.bodyLength || model.head.length !== manifest.headLength) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"model" expected ${manifest.bodyLength} + ${manifest.headLength} parameters, got ${model.body.length} + ${model.head.length}`,
    );
  }
  const offsets = { body: 0, head: 0 };
  return manifest.tensors.map((tensor) => {
    const start = offsets[tensor.group];
    offsets[tensor.group] += tensorLength(tensor);
    const values = model[tensor.group].slice(start, offsets[tensor.group]);
    return { name: tensor.name, shape: tensor.shape, values: precision === 'F32' ? Float32Array.from(values) : values };
  });
}

/**
 * Joins named tensors, in any order, into a flattened model.
 * @throws CoveyError CODEC_TYPE if a tensor of the manifest is missing, has another shape, or one is too many.
 */
export function tensorsToModel(manifest: ModelManifest, tensors: readonly NamedTensor[]): Model {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  if (byName.size !== manifest.tensors.length || tensors.length !== byName.size) {
    throw new CoveyError(
      'CODEC_TYPE',
      `"tensors" expected ${manifest.tensors.length} tensors of distinct names, got ${tensors.length}`,
    );
  }
  const model = { body: new Float64Array(manifest.bodyLength), head: new Float64Array(manifest.headLength) };
  const offsets = { body: 0, head: 0 };
  for (const { name, shape, group } of manifest.tensors) {
    const tensor = byName.get(name);
    if (tensor === undefined || tensor.shape.join() !== shape.join()) {
      throw new CoveyError(
        'CODEC_TYPE',
        `"${name}" expected shape ${shape.join(' x ')}, got ${tensor?.shape.join(' x ') ?? 'nothing'}`,
      );
    }
    model[group].set(tensor.values, offsets[group]);
    offsets[group] += tensor.values.length;
  }
  return model;
}

/** Encodes a model as a safetensors file; the metadata should name the run, the round and the cluster. */
export function encodeModel(
  manifest: ModelManifest,
  model: Model,
  metadata: Readonly<Record<string, string>> = {},
  precision: 'F32' | 'F64' = 'F32',
): Uint8Array {
  return encodeSafetensors(modelTensors(manifest, model, precision), metadata);
}

/**
 * Decodes a safetensors file into a model of the given manifest.
 * @throws CoveyError of `decodeSafetensors`, or CODEC_TYPE if it holds other tensors.
 */
export function decodeModel(
  manifest: ModelManifest,
  bytes: Uint8Array,
): { readonly model: Model; readonly metadata: Readonly<Record<string, string>> } {
  const { tensors, metadata } = decodeSafetensors(bytes);
  return { model: tensorsToModel(manifest, tensors), metadata };
}
