import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

/* Draws the first page of a report: node dist/scripts/screenshot.js <report.html> <picture.png>; CHROMIUM names the browser. */

const [report, picture] = process.argv.slice(2);
if (report === undefined || picture === undefined) {
  console.error('usage: screenshot <report.html> <picture.png>');
  process.exitCode = 2;
} else {
  const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage({ viewport: { width: 1_000, height: 1_400 } });
    await page.goto(pathToFileURL(resolve(report)).href);
    await page.screenshot({ path: picture });
  } finally {
    await browser.close();
  }
}
