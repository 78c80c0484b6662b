import { CoveyError } from '../../protocol/errors.ts';

/**
 * Reads the class counts of every client from PFLlib's `config.json`. Shapes: clients x classes.
 * @throws CoveyError CODEC_TYPE unless every client lists distinct pairs of a class and a positive count.
 */
export function parsePfllibCounts(text: string, classes: number): Uint32Array[] {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (cause) {
    throw new CoveyError('CODEC_TYPE', '"config.json" expected JSON', {}, { cause });
  }
  const clients = (config as Readonly<Record<string, unknown>> | null)?.['Size of samples for labels in clients'];
  if (!Array.isArray(clients))
    throw new CoveyError('CODEC_TYPE', '"config.json" expected the sizes of labels in clients');
  return clients.map((pairs: unknown, client) => {
    const row = new Uint32Array(classes);
    for (const pair of Array.isArray(pairs) ? (pairs as unknown[]) : [null]) {
      const [label, count] = Array.isArray(pair) ? (pair as unknown[]) : [];
      // `row[label]` is 0 for a class of the range that was not seen yet, and undefined or positive otherwise.
      if (!Number.isInteger(label) || row[label as number] !== 0 || !isCount(count))
        throw new CoveyError('CODEC_TYPE', `"config.json" expected pairs of a class and a count at client ${client}`);
      row[label as number] = count;
    }
    return row;
  });
}

const isCount = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) > 0 && (value as number) < 1 << 30;
