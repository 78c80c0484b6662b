import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pldAccountant, rdpAccountant } from '../src/privacy/accountant.ts';

/* The portable half of the product in a real browser: compiled modules, an import map, no bundler. */

const ROOT = join(import.meta.dirname, '..');
const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
const isHere = existsSync(CHROMIUM);
if (!isHere) process.stderr.write(`skipped: no browser at ${CHROMIUM}; CHROMIUM names another\n`);

const PAGE = `<!doctype html><script type="importmap">${JSON.stringify({
  imports: Object.fromEntries(
    ['curves', 'hashes', 'ciphers'].map((name) => [`@noble/${name}/`, `/node_modules/@noble/${name}/`]),
  ),
})}</script><title>covey</title>`;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Serves the compiled modules, the vectors and the libraries of the import map, nothing else. */
function serve(): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    const path = normalize(request.url ?? '/');
    if (path === '/') {
      response.setHeader('content-type', 'text/html').end(PAGE);
      return;
    }
    const isServed = ['/dist/', '/node_modules/@noble/', '/test/vectors/'].some((folder) => path.startsWith(folder));
    const file = join(ROOT, path);
    if (!isServed || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.setHeader('content-type', extname(file) === '.json' ? 'application/json' : 'text/javascript');
    response.end(readFileSync(file));
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve({ server, url: `http://127.0.0.1:${(server.address() as { port: number }).port}` });
    });
  });
}

describe.skipIf(!isHere)('in Chromium', () => {
  let served: Awaited<ReturnType<typeof serve>>;
  let browser: Awaited<ReturnType<typeof chromium.launch>>;
  beforeAll(async () => {
    served = await serve();
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  });
  afterAll(async () => {
    await browser.close();
    served.server.close();
  });

  it('the web provider reproduces every frozen vector, and WebCrypto masks the same bytes', async () => {
    const page = await browser.newPage();
    await page.goto(served.url);
    // As text: the compiler must not rewrite what runs over there.
    const result = await page.evaluate(`(async () => {
      const [{ webCrypto, applyMasksWeb }, { failedVectors }, { applyMasks }, { changedNoise }, vectors] = await Promise.all([
        import('/dist/platform/web/crypto.js'),
        import('/dist/test/vectors/check.js'),
        import('/dist/protocol/ring.js'),
        import('/dist/test/support/noise-digests.js'),
        fetch('/test/vectors/covey-1.json').then((response) => response.json()),
      ]);
      const seeds = [{ seed: new Uint8Array(32).fill(1), sign: 1 }, { seed: new Uint8Array(32).fill(2), sign: -1 }];
      const [a, b] = [new Uint32Array(300000).fill(7), new Uint32Array(300000).fill(7)];
      applyMasks(a, 3, seeds, webCrypto);
      await applyMasksWeb(b, 3, seeds);
      return {
        failed: failedVectors(webCrypto, vectors),
        primitives: vectors.primitives.length,
        masks: a.every((word, i) => word === b[i]),
        noise: changedNoise(webCrypto),
      };
    })()`);
    expect(result).toEqual({ failed: [], primitives: expect.any(Number), masks: true, noise: [] });
    expect((result as { primitives: number }).primitives).toBeGreaterThan(35);
  });

  it('the accountants give the same epsilons, but for the last bits of an engine', async () => {
    const page = await browser.newPage();
    await page.goto(served.url);
    const events = [
      { kind: 'gaussian', noiseMultiplier: 2 },
      { kind: 'poissonSampled', probability: 0.01, event: { kind: 'gaussian', noiseMultiplier: 1 } },
      {
        kind: 'fixedSizeSampled',
        sampleSize: 10,
        populationSize: 1_000,
        event: { kind: 'gaussian', noiseMultiplier: 1.5 },
      },
      { kind: 'exponentialMechanism', epsilon: 0.5, monotone: false },
    ] as const;
    const over = (await page.evaluate(`(async () => {
      const { pldAccountant, rdpAccountant } = await import('/dist/src/privacy/accountant.js');
      return ${JSON.stringify(events)}.map((event) =>
        [rdpAccountant, pldAccountant].map((make) => make({ relation: 'replace-one' }).supports(event)
          ? make({ relation: 'replace-one' }).compose(event, 100).epsilon(1e-6) : null));
    })()`)) as (number | null)[][];
    const here = events.map((event) =>
      [rdpAccountant, pldAccountant].map((make) => {
        const accountant = make({ relation: 'replace-one' });
        return accountant.supports(event) ? accountant.compose(event, 100).epsilon(1e-6) : null;
      }),
    );
    here.forEach((row, i) => {
      row.forEach((epsilon, j) => {
        const found = over[i]?.[j] ?? null;
        if (epsilon === null) expect(found).toBeNull();
        else expect(Math.abs((found ?? Number.NaN) / epsilon - 1)).toBeLessThan(1e-12);
      });
    });
    expect(here.flat().filter((epsilon) => epsilon !== null && epsilon > 0).length).toBeGreaterThan(4);
  });
});
