import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type SplitData } from './dataset.ts';
import { drawLogNormalFloor, drawNormal } from './draws.ts';
import { portableExp, portableLog } from './portable.ts';
import { createRandom } from './random.ts';

/** Users, features and classes of the published generator. */
export const FEDPROX_USERS = 30;
export const FEDPROX_FEATURES = 60;
export const FEDPROX_CLASSES = 10;

/** Separates the streams of this scenario from every other use of the same seed. */
const STREAM = 0x6664_7000;
/** Sizes reach into the hundred thousands with probability 1e-4 a user; beyond this a draw would not fit memory. */
const MAX_RECORDS = 1 << 20;

/**
 * Generates Synthetic(alpha, beta): user k labels x ~ N(v_k, diag(j^-1.2)) by argmax(W_k x + b_k) with entries of W_k and
 * b_k from N(u_k, 1), u_k ~ N(0, alpha^2), v_k from N(B_k, 1), B_k ~ N(0, beta^2), and holds 50 + floor(lognormal(4, 2))
 * records, nine tenths of them for training. alpha and beta are standard deviations, as in the published code (the paper
 * writes them where a variance stands; for 0 and 1 both agree).
 * Random: own deterministic draws, so records differ from those of other libraries with the same seed; each user has a
 * stream of its own.
 * @throws CoveyError USAGE_RANGE for a negative alpha or beta. @see Li et al. 2020 (FedProx), section 5.1
 */
export function generateFedProxSynthetic(seed: number, alpha: number, beta: number): SplitData[] {
  for (const [name, value] of [
    ['alpha', alpha],
    ['beta', beta],
  ] as const) {
    if (!(value >= 0 && value <= 100))
      throw new CoveyError('USAGE_RANGE', `"${name}" expected a number in [0, 100], got ${value}`);
  }
  // j^-.6, the square root of the variance j^-1.2.
  const spread = Float64Array.from({ length: FEDPROX_FEATURES }, (_, j) => portableExp(-0.6 * portableLog(j + 1)));
  return Array.from({ length: FEDPROX_USERS }, (_, user) => generateUser(seed, user, alpha, beta, spread));
}

function generateUser(seed: number, user: number, alpha: number, beta: number, spread: Float64Array): SplitData {
  const random = createRandom(seed, STREAM + user);
  const count = Math.min(MAX_RECORDS, 50 + drawLogNormalFloor(random, 4, 2));
  const modelMean = alpha * drawNormal(random);
  const inputMean = beta * drawNormal(random);
  const center = Float64Array.from(spread, () => inputMean + drawNormal(random));
  const kernel = Float64Array.from(
    { length: FEDPROX_FEATURES * FEDPROX_CLASSES },
    () => modelMean + drawNormal(random),
  );
  const bias = Float64Array.from({ length: FEDPROX_CLASSES }, () => modelMean + drawNormal(random));
  const features = new Float32Array(count * FEDPROX_FEATURES);
  const labels = new Uint8Array(count);
  const scores = new Float64Array(FEDPROX_CLASSES);
  for (let record = 0; record < count; record++) {
    scores.set(bias);
    for (let j = 0; j < FEDPROX_FEATURES; j++) {
      const x = (center[j] as number) + (spread[j] as number) * drawNormal(random);
      features[record * FEDPROX_FEATURES + j] = x;
      for (let c = 0; c < FEDPROX_CLASSES; c++)
        scores[c] = (scores[c] as number) + x * (kernel[j * FEDPROX_CLASSES + c] as number);
    }
    // Softmax keeps the order of the scores: its largest entry is theirs.
    let best = 0;
    for (let c = 1; c < FEDPROX_CLASSES; c++) if ((scores[c] as number) > (scores[best] as number)) best = c;
    labels[record] = best;
  }
  // Records are drawn independently of one another: the first ones are as good as a shuffled choice.
  const cut = Math.floor((9 * count) / 10);
  const part = (from: number, to: number): SplitData['train'] =>
    createDataset(
      FEDPROX_FEATURES,
      FEDPROX_CLASSES,
      features.slice(from * FEDPROX_FEATURES, to * FEDPROX_FEATURES),
      labels.slice(from, to),
    );
  return { train: part(0, cut), test: part(cut, count) };
}
