import { CoveyError } from '../../protocol/errors.ts';

/** Longest file that is read. Units: characters. */
const MAX_LENGTH = 64 * 1024 * 1024;

/**
 * Reads comma-separated numbers without a header; `missing` (a question mark by default) becomes NaN. Empty lines are skipped.
 * Shapes: every row has `columns` values. Messages name the line, never its content.
 * @throws CoveyError CODEC_TYPE for another number of columns or a cell that is no number, CODEC_LIMIT for a huge text.
 */
export function parseNumericCsv(text: string, columns: number, missing: string = '?'): Float64Array[] {
  if (text.length > MAX_LENGTH)
    throw new CoveyError('CODEC_LIMIT', `"csv" expected at most ${MAX_LENGTH} characters, got ${text.length}`);
  const rows: Float64Array[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '') return;
    const cells = line.split(',').map((cell) => cell.trim());
    if (cells.length !== columns) {
      throw new CoveyError('CODEC_TYPE', `"csv" expected ${columns} columns in line ${i + 1}, got ${cells.length}`, {
        line: i + 1,
      });
    }
    rows.push(
      Float64Array.from(cells, (cell) => {
        if (cell === missing) return Number.NaN;
        // Number() alone would also take '', '0x1f' and 'Infinity'.
        if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(cell)) {
          throw new CoveyError('CODEC_TYPE', `"csv" expected numbers in line ${i + 1}`, { line: i + 1 });
        }
        return Number(cell);
      }),
    );
  });
  return rows;
}
