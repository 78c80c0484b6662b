import { toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { createDiscreteGaussian } from '../../src/privacy/discrete-gaussian.ts';
import { createSkellam } from '../../src/privacy/skellam.ts';

/*
 * Expansion of a 256-bit seed into noise, frozen: whoever replays a labelled simulation, in whatever runtime, gets these
 * draws. No test framework and nothing of Node, so that the same code runs in a browser.
 */

const SEED = Uint8Array.from({ length: 32 }, (_, i) => 7 * i + 1);
const DRAWS = 20_000;

/** First draws and SHA-256 of all (little-endian 32-bit words), by law and deviation. */
export const FROZEN_NOISE: readonly (readonly [law: string, stddev: number, first: string, digest: string])[] = [
  ['discrete-gaussian', 0.7, '0 0 -1 -1 0 0', 'b8649c962487deb82266c0e2358998f550fa9c2dd5122eeff282d0868b2a2a97'],
  ['discrete-gaussian', 1, '0 0 -1 -2 0 0', 'fc22f49fefdc2e6717e0d6a2c74c43cbb65255b67095ba991b7f6cc483e8e271'],
  ['discrete-gaussian', 2, '1 0 -2 -3 0 0', '2cb686b717249e177d08c947adf73632acf8209b2980069f5c68a7f8809f551e'],
  ['discrete-gaussian', 10, '3 0 -10 -17 2 -2', 'a6983699fe96ccefb7fbacfa6a2c0e670a1f4c9cf6af0ec163dd3ab451189541'],
  ['discrete-gaussian', 64, '22 0 -63 -111 11 -15', '65435c4743dc93295bac08271fc69c222c5ef18453d2c97d0b1ab0728309d197'],
  [
    'discrete-gaussian',
    100,
    '34 -1 -98 -174 17 -23',
    'eb1935c84f7eb657c8cf348dc59f35cc1c686ea60c79b1f4dc3674b3a957ab0e',
  ],
  [
    'discrete-gaussian',
    1_000,
    '338 -6 -984 -1742 168 -227',
    'a3828bd88d0dfc197ee43a63b56b28ed2c01bb1f5280c1808371f907877c54f6',
  ],
  [
    'discrete-gaussian',
    8.3e4,
    '27771 -81151 13693 -46201 15838 63888',
    '153e8bbe637a73dad2567a197fd27d45b75ec39d1280adea459a46bbddd98ccc',
  ],
  ['skellam', 0.7, '0 0 -1 -1 0 0', '8e97da5dbc96a3daf81280297f10c4113f5a1dd1be4ef6f63a3dd16e61dd74dd'],
  ['skellam', 1, '0 0 -1 -2 0 0', '186eed3b464bf356ed0998bac7586dd37f829f6c267ea2287eb367625d0ee187'],
  ['skellam', 2, '1 0 -2 -3 0 0', '1b7cd22bcb3eb01b29b7ed8dd9e52a270cf51d068d6efc32c8d80fec78a2c9a5'],
  ['skellam', 10, '3 0 -10 -17 2 -2', 'bd3078e633e3cb760650cf6b8974402444def9db98214930bce8e41343c916f2'],
  ['skellam', 64, '22 0 -63 -111 11 -15', 'c752308631b166c527646e7ee575f46927008fddc46d90c6d9392ea4a0cde16a'],
  ['skellam', 100, '34 -1 -98 -174 17 -23', '362f5f3effa56eb4ad7cbcc2f0259f3cf661c2863c9d38fea3602cf3696e7b48'],
  ['skellam', 1_000, '338 -6 -984 -1742 168 -227', '132016bb7ee55c181f7b111f2218980db99c2643cc7839a4d936a904a98cb0d6'],
  [
    'skellam',
    8.3e4,
    '27771 -81151 13693 -46201 15838 63888',
    '153e8bbe637a73dad2567a197fd27d45b75ec39d1280adea459a46bbddd98ccc',
  ],
];

function expand(crypto: CryptoProvider, law: string, stddev: number): readonly [string, string] {
  const draws = new Int32Array(DRAWS);
  (law === 'skellam' ? createSkellam : createDiscreteGaussian)(stddev * stddev).fill(draws, crypto.aes256Ctr(SEED));
  const bytes = new Uint8Array(4 * DRAWS);
  const view = new DataView(bytes.buffer);
  for (const [i, x] of draws.entries()) view.setInt32(4 * i, x, true);
  return [draws.slice(0, 6).join(' '), toHex(crypto.sha256(bytes))];
}

/** Laws and deviations at which a provider gives other draws; empty if all is well. */
export function changedNoise(crypto: CryptoProvider): string[] {
  return FROZEN_NOISE.flatMap(([law, stddev, first, digest]) => {
    const [gotFirst, gotDigest] = expand(crypto, law, stddev);
    return gotFirst === first && gotDigest === digest ? [] : [`['${law}', ${stddev}, '${gotFirst}', '${gotDigest}'],`];
  });
}
