import { CoveyError } from '../../protocol/errors.ts';
import type { IdxArray } from './idx.ts';
import type { ImageSet } from './images.ts';

/** Columns of the QMNIST labels. */
const QMNIST_COLUMNS = 8;
const SERIES_COLUMN = 1;
const WRITER_COLUMN = 2;
/** NIST series of the second population: hsf_0 to hsf_3 are census employees, hsf_4 are students. */
const STUDENTS = 4;

/**
 * Reads who wrote every image (QMNIST labels: class, NIST series, writer, ...) and which population each writer belongs
 * to: 0 census employee, 1 student. @throws CoveyError CODEC_TYPE unless the rows are those of the images.
 */
export function readWriters(
  { shape, values }: IdxArray,
  images: ImageSet,
): { readonly writers: Int32Array; readonly populations: ReadonlyMap<number, number> } {
  if (!(values instanceof Int32Array) || shape.length !== 2 || shape[0] !== images.count || shape[1] !== QMNIST_COLUMNS)
    throw new CoveyError('CODEC_TYPE', `"qmnist" expected ${images.count} x 8 integers, got ${shape.join(' x ')}`);
  const populations = new Map<number, number>();
  const writers = Int32Array.from({ length: images.count }, (_, i) => {
    const at = i * QMNIST_COLUMNS;
    if (values[at] !== images.labels[i])
      throw new CoveyError('CODEC_TYPE', `"qmnist" expected class ${images.labels[i]} in row ${i}, got ${values[at]}`);
    const writer = values[at + WRITER_COLUMN] as number;
    populations.set(writer, values[at + SERIES_COLUMN] === STUDENTS ? 1 : 0);
    return writer;
  });
  return { writers, populations };
}
