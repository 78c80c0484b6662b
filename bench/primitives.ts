import { spawnSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { createMaskPool } from '../platform/node/mask-pool.ts';
import { releaseBuffer } from '../platform/node/release-buffer.ts';
import { scanPlain, searchPlain } from '../protocol/kernels/sampler-plain.ts';
import { applyMasks, applyMasksPlain, ringWordCount } from '../protocol/ring.ts';
import type { Lanes, MaskSeed } from '../protocol/session.ts';
import { combineShares, splitSecret } from '../protocol/shamir.ts';
import { createDiscreteGaussian } from '../src/privacy/discrete-gaussian.ts';
import { discreteGaussianLaw } from '../src/privacy/discrete-gaussian-law.ts';
import { createEncoder } from '../src/privacy/encode.ts';
import { rationalOf } from '../src/privacy/fixed-point.ts';
import { plainWorkspace, rotationWorkspace, transformWalshHadamard } from '../src/privacy/hadamard.ts';
import { createSkellam } from '../src/privacy/skellam.ts';
import type { SymmetricLaw } from '../src/privacy/symmetric-law.ts';
import { cellWidthOf } from '../src/privacy/table-sampler.ts';
import { buildThresholdTable } from '../src/privacy/threshold-table.ts';
import { cpuMs, median } from './session.ts';
import { busiestThread, settleLoop } from './threads.ts';

/*
 * The hot loops by themselves, as ratios within this run: masking against what OpenSSL's AES-256-CTR alone would take for
 * the same bytes, secret sharing, the Walsh-Hadamard transform, exact noise.
 */

/** Turns of `turns`, each piece of work once a turn: what else the machine does meets all of them alike. */
async function timedInTurns(turns: number, work: readonly (() => Promise<void> | void)[]): Promise<number[]> {
  const times = work.map((): number[] => []);
  for (let turn = 0; turn <= turns; turn++) {
    for (const [i, piece] of work.entries()) {
      const before = performance.now();
      await piece();
      // The first turn compiles.
      if (turn > 0) times[i]?.push(performance.now() - before);
    }
  }
  return times.map(median);
}

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

await settleLoop();

const D = 1_000_000;
const NEIGHBOURS = 50;
const rate = opensslRate();
console.log(`Node ${process.version}, one thread, CPU time, medians.\n`);
console.log(`Masking of d = ${D.toLocaleString('en')} with a self mask and ${NEIGHBOURS} pair masks, AES-256-CTR.`);
if (rate === null) console.log('openssl is not installed: no ratio to its rate can be taken.');
else console.log(`openssl speed aes-256-ctr in this run: ${(rate / 1e9).toFixed(2)} GB/s`);
// What no kernel can beat: the keystream as Node hands it out, thrown away.
const cipher = createCipheriv('aes-256-ctr', new Uint8Array(32), new Uint8Array(16));
const zeros = new Uint8Array(131_072);
const calls = 1_000;
const updateMs = timed(7, () => {
  for (let i = 0; i < calls; i++) releaseBuffer(cipher.update(zeros).buffer as ArrayBuffer);
});
const bound = (calls * zeros.length) / (updateMs / 1_000);
console.log(
  `cipher.update of this Node by itself: ${(bound / 1e9).toFixed(2)} GB/s${rate === null ? '' : ` (${((100 * bound) / rate).toFixed(0)} %)`}`,
);
console.log('\n| lanes | keystream | plain loops | SIMD kernels | rate | of openssl | to 2 x 32 |');
console.log('|---|---|---|---|---|---|---|');
const seeds = Array.from(
  { length: NEIGHBOURS + 1 },
  (_, i): MaskSeed => ({ seed: new Uint8Array(32).fill(i + 1), sign: i % 2 === 0 ? 1 : -1 }),
);
let wide = 0;
for (const lanes of [2, 3, 4] as Lanes[]) {
  const words = new Uint32Array(ringWordCount(D, lanes));
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

const pool = createMaskPool({ threads: 2 });
await pool.start();
console.log('\nThe same by two threads, wall time; CPU: of one thread to the busier of the two.\n');
console.log('| lanes | one thread | two threads | ratio | ratio by CPU |\n|---|---|---|---|---|');
for (const lanes of [2, 3, 4] as Lanes[]) {
  const words = new Uint32Array(ringWordCount(D, lanes));
  const one = (): void => applyMasks(words, lanes, seeds, nodeCrypto);
  const two = (): Promise<void> => pool.mask(words, lanes, seeds);
  const [oneMs = 0, twoMs = 0] = await timedInTurns(15, [one, two]);
  const often = async (work: () => Promise<void> | void): Promise<void> => {
    for (let i = 0; i < 40; i++) await work();
  };
  const [oneTicks, twoTicks] = [await busiestThread(() => often(one)), await busiestThread(() => often(two))];
  const byCpu = oneTicks === null || twoTicks === null ? '-' : (oneTicks / twoTicks).toFixed(2);
  console.log(
    `| ${lanes} | ${oneMs.toFixed(1)} ms | ${twoMs.toFixed(1)} ms | ${(oneMs / twoMs).toFixed(2)} | ${byCpu} |`,
  );
}
await pool.close();

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

const LENGTH = 2 ** 20;
const values = Float64Array.from({ length: LENGTH }, (_, i) => ((i % 13) - 6) / LENGTH);
console.log(
  `| Walsh-Hadamard 2^20, doubles (decoding) | ${timed(31, () => transformWalshHadamard(values)).toFixed(2)} ms |`,
);
for (const [name, workspaceOf] of [
  ['plain loops', plainWorkspace],
  ['SIMD kernel', rotationWorkspace],
] as const) {
  const workspace = workspaceOf(LENGTH);
  const restore = (): void => {
    for (let i = 0; i < LENGTH; i++) workspace.values[i] = ((i % 13) - 6) / LENGTH;
  };
  // Values grow by 2^10 a transform and must stay finite: put back in between, outside of the time.
  const transformMs = median(
    Array.from({ length: 61 }, () => {
      restore();
      const before = cpuMs();
      workspace.transform(0, LENGTH);
      return cpuMs() - before;
    }),
  );
  workspace.values.fill(0);
  const blocks = [{ segment: 'body', realLength: LENGTH, length: LENGTH, rotated: true }];
  const spec = { blocks, clippingNorm: 1, scale: 2 ** 16, rotationSeed: new Uint8Array(32) };
  const encoder = createEncoder(nodeCrypto, spec, workspaceOf);
  const term = [{ block: 0, values: Float64Array.from({ length: LENGTH }, (_, i) => ((i * 7) % 13) - 6) }];
  const sum = new Int32Array(LENGTH);
  console.log(`| Walsh-Hadamard 2^20, floats, ${name} (encoding) | ${transformMs.toFixed(2)} ms |`);
  console.log(
    `| clip, rotate, scale, round and check one record of 2^20, ${name} | ${timed(15, () => encoder.addRecord(sum, term)).toFixed(1)} ms |`,
  );
}

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
