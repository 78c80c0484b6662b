import type { Drawing } from './figure.ts';
import { escapeMarkup, px } from './svg.ts';

/** Values over two lists of names. Shapes: `values` rows x columns; null where nothing was measured. */
export interface HeatMap {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  readonly values: readonly (readonly (number | null)[])[];
  /** What the colours mean. */
  readonly valueLabel: string;
  format(value: number): string;
}

const WIDTH = 760;
const MARGIN = { top: 16, right: 120, bottom: 48, left: 120 };
const ROW = 44;
const BAR = { width: 14, steps: 24 };

/** From light to dark in one hue: readable in grey and with any colour vision. */
const LIGHT: readonly number[] = [237, 244, 250];
const DARK: readonly number[] = [8, 64, 120];

function shade(share: number): string {
  const channel = (i: number): number =>
    Math.round((LIGHT[i] as number) + share * ((DARK[i] as number) - (LIGHT[i] as number)));
  return `#${[0, 1, 2].map((i) => channel(i).toString(16).padStart(2, '0')).join('')}`;
}

/** Draws the map with its values in the cells and a bar of the colours. */
export function heatMap(map: HeatMap): Drawing {
  const { columns, rows, values } = map;
  const known = values.flat().filter((value) => value !== null);
  const [low, high] = known.length === 0 ? [0, 1] : [Math.min(...known), Math.max(...known)];
  const share = (value: number): number => (high === low ? 0.5 : (value - low) / (high - low));
  const right = WIDTH - MARGIN.right;
  const bottom = MARGIN.top + ROW * rows.length;
  const height = bottom + MARGIN.bottom;
  const column = (right - MARGIN.left) / Math.max(1, columns.length);
  const text = (kind: string, x: number, y: number, anchor: string, content: string, more = ''): string =>
    `<text class="${kind}" x="${px(x)}" y="${px(y)}" text-anchor="${anchor}"${more}>${escapeMarkup(content)}</text>`;
  const parts: string[] = [];
  rows.forEach((row, i) => {
    const top = MARGIN.top + ROW * i;
    parts.push(text('tick', MARGIN.left - 8, top + ROW / 2, 'end', row, ' dy="0.32em"'));
    columns.forEach((_, j) => {
      const value = values[i]?.[j] ?? null;
      const left = MARGIN.left + column * j;
      const fill = value === null ? '#ffffff' : shade(share(value));
      parts.push(
        `<rect class="cell" x="${px(left + 1)}" y="${px(top + 1)}" width="${px(column - 2)}" height="${ROW - 2}" fill="${fill}"${value === null ? ' stroke="#dde2e8"' : ''}/>`,
      );
      const ink = value !== null && share(value) > 0.5 ? '#ffffff' : '#17202c';
      parts.push(
        text(
          'value',
          left + column / 2,
          top + ROW / 2,
          'middle',
          value === null ? '–' : map.format(value),
          ` dy="0.32em" font-size="12.5" fill="${ink}"`,
        ),
      );
    });
  });
  columns.forEach((name, j) => {
    parts.push(text('tick', MARGIN.left + column * (j + 0.5), bottom + 18, 'middle', name));
  });
  parts.push(text('label', (MARGIN.left + right) / 2, height - 8, 'middle', map.xLabel));
  const middle = (MARGIN.top + bottom) / 2;
  parts.push(text('label', 14, middle, 'middle', map.yLabel, ` transform="rotate(-90 14 ${px(middle)})"`));
  const barLeft = right + 22;
  const step = (bottom - MARGIN.top) / BAR.steps;
  for (let i = 0; i < BAR.steps; i++)
    parts.push(
      `<rect x="${px(barLeft)}" y="${px(bottom - step * (i + 1))}" width="${BAR.width}" height="${px(step + 0.5)}" fill="${shade(i / (BAR.steps - 1))}"/>`,
    );
  if (known.length > 0) {
    parts.push(text('tick', barLeft + BAR.width + 6, MARGIN.top + 5, 'start', map.format(high), ' dy="0.32em"'));
    parts.push(text('tick', barLeft + BAR.width + 6, bottom - 5, 'start', map.format(low), ' dy="0.32em"'));
  }
  parts.push(text('label', barLeft, bottom + 18, 'start', map.valueLabel));
  const title = escapeMarkup(map.title);
  const svg = `<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}" xmlns="http://www.w3.org/2000/svg"><title>${title}</title>${parts.join('')}</svg>`;
  return { title: map.title, svg, width: WIDTH, height };
}
