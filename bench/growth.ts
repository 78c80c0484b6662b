import { parseArgs } from 'node:util';
import { type Cost, measureSession } from './session.ts';
import { settleLoop } from './threads.ts';

/* How the cost of a strict session grows with members and coordinates, with the exponents that fit: cost ~ n^a, d^b. */

await settleLoop();

const { values: flags } = parseArgs({
  options: {
    members: { type: 'string', default: '12,25,50,100,200' },
    coordinates: { type: 'string', default: '10000,100000,1000000,10000000' },
  },
});
const list = (text: string): number[] => text.split(',').map(Number);

/** Slope of a straight line through the logarithms. */
function exponentOf(points: readonly (readonly [number, number])[]): number {
  const xs = points.map(([x]) => Math.log(x));
  const ys = points.map(([, y]) => Math.log(Math.max(y, 1e-3)));
  const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
  const [mx, my] = [mean(xs), mean(ys)];
  const covariance = xs.reduce((sum, x, i) => sum + (x - mx) * ((ys[i] as number) - my), 0);
  return covariance / xs.reduce((sum, x) => sum + (x - mx) ** 2, 0);
}

function table(title: string, of: readonly (readonly [number, Cost])[]): void {
  console.log(`\n| ${title} | client CPU | server CPU | up |\n|---|---|---|---|`);
  for (const [x, { clientMs, serverMs, uploadBytes }] of of)
    console.log(
      `| ${x.toLocaleString('en')} | ${clientMs.toFixed(0)} ms | ${serverMs.toFixed(0)} ms | ${(uploadBytes / 1e6).toFixed(2)} MB |`,
    );
  const slope = (cost: (c: Cost) => number): string => exponentOf(of.map(([x, c]) => [x, cost(c)])).toFixed(2);
  console.log(
    `| exponent | ${slope((c) => c.clientMs)} | ${slope((c) => c.serverMs)} | ${slope((c) => c.uploadBytes)} |`,
  );
}

console.log(`Strict sessions, 21-bit lanes, nobody lost, one thread, Node ${process.version}.`);
table(
  'n at d = 100,000',
  list(flags.members).map((n) => [n, measureSession(n, 100_000, 3, 0)] as const),
);
table(
  'd at n = 12',
  list(flags.coordinates).map((d) => [d, measureSession(12, d, 3, 0)] as const),
);
