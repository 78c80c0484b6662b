import { HEIGHT, type LineChart, lineChart, WIDTH } from './line-chart.ts';
import { escapeMarkup } from './svg.ts';

const HEADING = 34;
const STYLE =
  'text{font-family:system-ui,sans-serif}.heading{font-size:15px;font-weight:600;fill:#17202c}.grid{stroke:#e6eaee}' +
  '.axis{stroke:#8a94a1}.tick{font-size:11.5px;fill:#5b6675}.label{font-size:12px;fill:#5b6675}.end{font-size:12px;font-weight:600}';

/** A drawn chart: an `svg` element whose view box has this size. */
export interface Drawing {
  readonly title: string;
  readonly svg: string;
  readonly width: number;
  readonly height: number;
}

/** Drawings one below the other as an SVG file that needs nothing else: own style, white ground, headings. */
export function drawingFile(drawings: readonly Drawing[]): string {
  const full = Math.max(...drawings.map(({ width }) => width));
  let top = 0;
  const parts = drawings.map(({ title, svg, width, height }) => {
    const heading = `<text class="heading" x="16" y="${top + 24}">${escapeMarkup(title)}</text>`;
    const inner = svg.replace('<svg ', `<svg x="0" y="${top + HEADING}" width="${width}" height="${height}" `);
    top += height + HEADING;
    return heading + inner;
  });
  const title = escapeMarkup(drawings.map((drawing) => drawing.title).join('; '));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${full} ${top}" width="${full}" height="${top}" role="img" aria-label="${title}"><title>${title}</title><style>${STYLE}</style><rect width="100%" height="100%" fill="#fff"/>${parts.join('')}</svg>\n`;
}

/** Line charts as one SVG file. */
export function chartFigure(charts: readonly LineChart[]): string {
  return drawingFile(
    charts.map((chart) => ({ title: chart.title, svg: lineChart(chart), width: WIDTH, height: HEIGHT })),
  );
}
