import { escapeMarkup, HEIGHT, type LineChart, lineChart, WIDTH } from './line-chart.ts';

const HEADING = 34;
const STYLE =
  'text{font-family:system-ui,sans-serif}.heading{font-size:15px;font-weight:600;fill:#17202c}.grid{stroke:#e6eaee}' +
  '.axis{stroke:#8a94a1}.tick{font-size:11.5px;fill:#5b6675}.label{font-size:12px;fill:#5b6675}.end{font-size:12px;font-weight:600}';

/** Charts one below the other as an SVG file that needs nothing else: own style, white ground, headings. */
export function chartFigure(charts: readonly LineChart[]): string {
  const height = charts.length * (HEIGHT + HEADING);
  const parts = charts.map((chart, i) => {
    const top = i * (HEIGHT + HEADING);
    const heading = `<text class="heading" x="16" y="${top + 24}">${escapeMarkup(chart.title)}</text>`;
    const inner = lineChart(chart).replace(
      '<svg ',
      `<svg x="0" y="${top + HEADING}" width="${WIDTH}" height="${HEIGHT}" `,
    );
    return heading + inner;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"><style>${STYLE}</style><rect width="100%" height="100%" fill="#fff"/>${parts.join('')}</svg>\n`;
}
