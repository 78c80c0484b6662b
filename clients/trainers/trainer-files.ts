import { rmSync } from 'node:fs';
import { lstat, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { type ModelManifest, tensorLength } from '../../src/learning/manifest.ts';
import { encodeModel, tensorsToModel } from '../../src/learning/model-files.ts';
import { decodeSafetensors, encodeSafetensors, type NamedTensor } from '../../src/learning/safetensors.ts';
import { flattenModel, parameterCount, splitModel } from '../../src/learning/trainer.ts';
import { atExit } from './at-exit.ts';

/** Room for the header of a result. */
const HEADER_BYTES = 2 ** 20;
/** Name of the tensor that holds the losses of records beside their gradients. */
export const LOSSES = 'losses';

/** The folder through which arrays travel to a training program and back; only this user may enter it. */
export interface TrainerFolder {
  readonly path: string;
  /** A path that no earlier task has used. */
  fresh(name: string): string;
  writeParameters(manifest: ModelManifest, layout: string, parameters: Float32Array): Promise<string>;
  /** Writes `features` and `labels`; the file is kept until other data come. */
  writeData(data: Dataset): Promise<string>;
  writeRecords(records: Uint32Array): Promise<string>;
  readParameters(path: string, manifest: ModelManifest): Promise<Float32Array>;
  readGradients(
    path: string,
    manifest: ModelManifest,
    rows: number,
  ): Promise<{ losses: Float64Array; gradients: Float32Array }>;
  drop(...paths: readonly string[]): Promise<void>;
  remove(): Promise<void>;
}

function outputError(message: string, cause?: unknown): CoveyError {
  return new CoveyError('DEP_TRAINER_OUTPUT', message, {}, { cause });
}

/** Reads the tensors of a result of at most `values` doubles. */
async function readResult(path: string, values: number): Promise<readonly NamedTensor[]> {
  let bytes: Uint8Array;
  try {
    // A pipe or a device would never end.
    const found = await lstat(path);
    if (!found.isFile()) throw outputError('"result" expected a plain file');
    const limit = 8 + HEADER_BYTES + 8 * values;
    if (found.size > limit) throw outputError(`"result" expected at most ${limit} bytes, got ${found.size}`);
    bytes = await readFile(path);
  } catch (cause) {
    if (isCoveyError(cause)) throw cause;
    throw outputError('"result" expected a file that the training program wrote', cause);
  }
  try {
    return decodeSafetensors(bytes).tensors;
  } catch (cause) {
    throw outputError(`"result" expected safetensors: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
}

function joinGradients(
  tensors: readonly NamedTensor[],
  manifest: ModelManifest,
  rows: number,
): { losses: Float64Array; gradients: Float32Array } {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const take = (name: string, shape: readonly number[]): Float32Array | Float64Array => {
    const tensor = byName.get(name);
    if (tensor === undefined || tensor.shape.join() !== shape.join())
      throw outputError(
        `"${name}" expected shape ${shape.join(' x ')}, got ${tensor?.shape.join(' x ') ?? 'no such tensor'}`,
      );
    return tensor.values;
  };
  if (tensors.length !== manifest.tensors.length + 1)
    throw outputError(`"result" expected ${manifest.tensors.length + 1} tensors, got ${tensors.length}`);
  const losses = Float64Array.from(take(LOSSES, [rows]));
  const length = parameterCount(manifest);
  const gradients = new Float32Array(rows * length);
  const offsets = { body: 0, head: manifest.bodyLength };
  for (const tensor of manifest.tensors) {
    const size = tensorLength(tensor);
    const values = take(tensor.name, [rows, ...tensor.shape]);
    for (let row = 0; row < rows; row++)
      gradients.set(values.subarray(row * size, (row + 1) * size), row * length + offsets[tensor.group]);
    offsets[tensor.group] += size;
  }
  return { losses, gradients };
}

/** Creates the folder below `parent`, the system's folder for temporary files by default. */
export async function createTrainerFolder(parent: string = tmpdir()): Promise<TrainerFolder> {
  const path = await mkdtemp(join(parent, 'covey-trainer-'));
  const forget = atExit(() => rmSync(path, { recursive: true, force: true }));
  let number = 0;
  let kept: { data: Dataset; file: string } | null = null;
  const fresh = (name: string): string => join(path, `${name}-${++number}.safetensors`);
  const write = async (name: string, bytes: Uint8Array): Promise<string> => {
    const file = fresh(name);
    await writeFile(file, bytes, { mode: 0o600, flag: 'wx' });
    return file;
  };
  const drop = async (...paths: readonly string[]): Promise<void> => {
    await Promise.all(paths.map((file) => rm(file, { force: true, recursive: true })));
  };
  return {
    path,
    fresh,
    writeParameters: (manifest, layout, parameters) =>
      write('parameters', encodeModel(manifest, splitModel(manifest, parameters), { layout })),
    async writeData(data) {
      if (kept !== null && kept.data === data) return kept.file;
      if (kept !== null) await drop(kept.file);
      const file = await write(
        'data',
        encodeSafetensors([
          { name: 'features', shape: [data.count, data.featureLength], values: data.features },
          { name: 'labels', shape: [data.count], values: Float32Array.from(data.labels) },
        ]),
      );
      kept = { data, file };
      return file;
    },
    writeRecords: (records) =>
      write(
        'records',
        encodeSafetensors([{ name: 'records', shape: [records.length], values: Float64Array.from(records) }]),
      ),
    async readParameters(file, manifest) {
      const tensors = await readResult(file, parameterCount(manifest));
      try {
        return flattenModel(tensorsToModel(manifest, tensors));
      } catch (cause) {
        throw outputError(`"result": ${cause instanceof Error ? cause.message : ''}`, cause);
      }
    },
    readGradients: async (file, manifest, rows) =>
      joinGradients(await readResult(file, rows * (parameterCount(manifest) + 1)), manifest, rows),
    drop,
    async remove() {
      await rm(path, { recursive: true, force: true });
      forget();
    },
  };
}
