import { spawnSync } from 'node:child_process';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { scanPlain, searchPlain } from '../protocol/kernels/sampler-plain.ts';
import { applyMasks, applyMasksPlain, ringWordCount } from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { combineShares, splitSecret } from '../protocol/shamir.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { discreteGaussianLaw } from '../src/privacy/discrete-gaussian-law.ts';
import { rationalOf } from '../src/privacy/fixed-point.ts';
import { transformWalshHadamard } from '../src/privacy/hadamard.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import type { SymmetricLaw } from '../src/privacy/symmetric-law.ts';
import { cellWidthOf } from '../src/privacy/table-sampler.ts';
import { buildThresholdTable } from '../src/privacy/threshold-table.ts';
import { cpuMs, median } from './session.ts';

/*
 * The hot loops by themselves, as ratios within this run: masking against what OpenSSL's AES-256-CTR alone would take for
 * the same bytes, secret sharing, the Walsh-Hadamard transform, exact noise.
 */

function timed(repeats: number, work: () => void): number {
  work();
  return median(
    Array.from({ length: repeats }, () => {
      const before = cpuMs();
      work();
      return cpuMs() - before;
    }),
  );
}

/** Bytes per second of `openssl speed`, or null where the command is missing. */
function opensslRate(): number | null {
  const run = spawnSync('openssl', ['speed', '-seconds', '2', '-bytes', '131072', '-evp', 'aes-256-ctr', '-mr'], {
    encoding: 'utf8',
  });
  const match = /\+F:\d+:[^:]+:([\d.]+)/.exec(run.stdout ?? '');
  return match?.[1] === undefined ? null : Number(match[1]);
}

// Buffers are given back at once only after the first turn of the event loop (platform/node/release-buffer.ts).
await new Promise((resolve) => setTimeout(resolve, 20));

const D = 1_000_000;
const NEIGHBOURS = 50;
const rate = opensslRate();
console.log(`Node ${process.version}, one thread, CPU time, medians.\n`);
console.log(`Masking of d = ${D.toLocaleString('en')} with a self mask and ${NEIGHBOURS} pair masks, AES-256-CTR.`);
if (rate === null) console.log('openssl is not installed: no ratio to its rate can be taken.');
else console.log(`openssl speed aes-256-ctr in this run: ${(rate / 1e9).toFixed(2)} GB/s`);
console.log('\n| lanes | keystream | plain loops | SIMD kernels | rate | of openssl | to 2 x 32 |');
console.log('|---|---|---|---|---|---|---|');
let wide = 0;
for (const lanes of [2, 3, 4] as Lanes[]) {
  const words = new Uint32Array(ringWordCount(D, lanes));
  const seeds = Array.from(
    { length: NEIGHBOURS + 1 },
    (_, i): MaskSeed => ({
      seed: new Uint8Array(32).fill(i + 1),
      sign: i % 2 === 0 ? 1 : -1,
    }),
  );
  const ms = timed(7, () => applyMasks(words, lanes, seeds, nodeCrypto));
  const plainMs = timed(3, () => applyMasksPlain(words, lanes, seeds, nodeCrypto));
  if (lanes === 2) wide = ms;
  const bytes = words.byteLength * seeds.length;
  const bytesPerSecond = bytes / (ms / 1_000);
  const share = rate === null ? '-' : `${((100 * bytesPerSecond) / rate).toFixed(0)} %`;
  console.log(
    `| ${lanes} | ${(bytes / 1e6).toFixed(0)} MB | ${plainMs.toFixed(0)} ms | ${ms.toFixed(0)} ms | ${(bytesPerSecond / 1e9).toFixed(2)} GB/s | ${share} | ${(ms / wide).toFixed(2)} |`,
  );
}

const secret = new Uint8Array(32).fill(7);
const stream = nodeCrypto.aes256Ctr(new Uint8Array(32).fill(9));
const random = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  stream.read(bytes);
  return bytes;
};
const REPEATS = 200;
const shares = splitSecret(secret, 100, 67, random);
const opened = shares.slice(0, 67).map((share, i) => ({ x: i + 1, share }));
const split = timed(5, () => {
  for (let i = 0; i < REPEATS; i++) splitSecret(secret, 100, 67, random);
});
const combine = timed(5, () => {
  for (let i = 0; i < REPEATS; i++) combineShares(opened, 100);
});
console.log(`\n| work | time |\n|---|---|`);
console.log(`| Shamir, 32 bytes, n = 100, t = 67: share | ${(split / REPEATS).toFixed(3)} ms |`);
console.log(`| reconstruct, same points | ${(combine / REPEATS).toFixed(3)} ms |`);
const values = Float64Array.from({ length: 2 ** 20 }, (_, i) => (i % 13) - 6);
console.log(`| Walsh-Hadamard 2^20, doubles | ${timed(9, () => transformWalshHadamard(values)).toFixed(2)} ms |`);

/** Draws in one call; keystream included, as the participant draws its share. */
const NOISE_DRAWS = 1_000_000;
const noise = new Int32Array(NOISE_DRAWS);
const plainNoise = (law: SymmetricLaw, stddev: number): number => {
  const { prefix } = buildThresholdTable(law, 1, true);
  const words = new Uint32Array(NOISE_DRAWS / 10);
  stream.read(new Uint8Array(words.buffer));
  const inversion = (stddev <= 64 ? scanPlain : searchPlain)(prefix);
  return 10 * timed(5, () => void inversion.run(words, 0, noise, 0, words.length));
};
const perSecond = (ms: number): string => `${(NOISE_DRAWS / ms / 1_000).toFixed(0)} M/s`;
console.log(
  `\nExact noise, ${NOISE_DRAWS.toLocaleString('en')} draws a call, AES-256-CTR included (plain twin: without).`,
);
const keystream = timed(9, () => stream.read(new Uint8Array(noise.buffer)));
console.log(`The keystream alone: ${perSecond(keystream)} words.\n`);
console.log('| deviation | thresholds | route | discrete Gaussian | Skellam | plain twin |');
console.log('|---|---|---|---|---|---|');
for (const stddev of [0.7, 1, 2, 10, 64, 100, 1_000, 8.3e4]) {
  const variance = stddev * stddev;
  const law = discreteGaussianLaw(rationalOf(variance));
  const width = cellWidthOf(variance);
  const route = stddev <= 64 ? 'scan' : width === 1 ? 'search' : 'search, cells';
  const [gaussian, skellam] = [createDiscreteGaussian, createSkellam].map((create) => {
    const sampler = create(variance);
    return perSecond(timed(9, () => sampler.add(noise, stream)));
  });
  const plain = width === 1 ? perSecond(plainNoise(law, stddev)) : '-';
  const { length } = buildThresholdTable(law, width, width === 1).prefix;
  console.log(`| ${stddev} | ${length} | ${route} | ${gaussian} | ${skellam} | ${plain} |`);
}
