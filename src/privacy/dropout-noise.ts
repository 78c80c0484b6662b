import type { CryptoProvider, KeyStream } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { componentCount } from '../../protocol/noise-seeds.ts';
import { coordinateCount } from '../../protocol/params.ts';
import { packLanes, subtractWords } from '../../protocol/ring.ts';
import type { NoiseComponent, SessionParams } from '../../protocol/session.ts';
import { createSkellam } from './skellam.ts';

/*
 * Noise that is exact whoever drops out (XNoise). Of a total variance S each of n members adds a base of S/n and, for
 * k = 1, 2, ..., a component of S / ((n - k + 1)(n - k)) from a seed of its own. When D members are lost, the
 * components k > D of the survivors are taken off the sum again. What stays in each vector telescopes:
 *   S/n + sum over k <= D of (S/(n - k) - S/(n - k + 1)) = S/(n - D),
 * so the n - D survivors carry S together. Skellam alone: its sums are closed, a sum of discrete Gaussians is none.
 * Jiang, Wang, Chen, "Dropout-Resilient Noise", EuroSys 2024; privacy F19.
 */

/** Rounds up by more than doubles err in one of these variances: what stays is never below what is charged. */
const roundUp = (variance: number): number => variance * (1 + 2 ** -51);

function requireCounts(members: number, component: number): void {
  const valid = Number.isSafeInteger(members) && Number.isSafeInteger(component) && component >= 0;
  if (!valid || members - component < 1) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"component" expected a whole number below ${members} members, got ${component}`,
      { members, component },
    );
  }
}

/** Variance S/n of the part of a member's noise that always stays, rounded up. Units: those of `totalVariance`. @see privacy F19 */
export function baseVariance(members: number, totalVariance: number): number {
  requireCounts(members, 0);
  return roundUp(totalVariance / members);
}

/**
 * Variance S / ((n - k + 1)(n - k)) of component k, counted from 1, rounded up. Units: those of `totalVariance`.
 * @throws CoveyError USAGE_RANGE unless 1 <= k < n. @see privacy F19
 */
export function componentVariance(members: number, component: number, totalVariance: number): number {
  requireCounts(members, component);
  if (component < 1) throw new CoveyError('USAGE_RANGE', `"component" expected at least 1, got ${component}`);
  return roundUp(totalVariance / ((members - component + 1) * (members - component)));
}

/**
 * Total variance S = sigma*^2 t / (t - c) that leaves sigma*^2 to u >= t survivors of whom c know their own shares: each
 * carries S/u, the u - c honest ones S (u - c) / u, which is least, sigma*^2, at u = t. Members that drop out have no
 * share in the sum, so colluders among them lower nothing. Units: squared integer units.
 * @throws CoveyError PRIVACY_NOISE without an honest survivor. @see privacy F19
 */
export function totalForColluders(targetVariance: number, minSurvivors: number, colluders: number): number {
  const integers = Number.isSafeInteger(minSurvivors) && Number.isSafeInteger(colluders) && colluders >= 0;
  if (!integers || minSurvivors - colluders < 1) {
    throw new CoveyError(
      'PRIVACY_NOISE',
      `"minSurvivors" expected more than ${colluders} colluders, got ${minSurvivors}`,
      { minSurvivors, colluders },
    );
  }
  return (targetVariance * minSurvivors) / (minSurvivors - colluders);
}

/** S of a session: a share of the parameters is what each member carries when the fewest survive. */
export function totalVarianceOf({ minSurvivors, noise }: Pick<SessionParams, 'minSurvivors' | 'noise'>): number {
  return minSurvivors * noise.shareVariance;
}

/**
 * Variance S/u that each of `survivors` members carries once what the lost made superfluous is off. Units: as
 * `shareVariance`, which is that of `minSurvivors` members.
 */
export function survivorVariance(shareVariance: number, minSurvivors: number, survivors: number): number {
  return (minSurvivors * shareVariance) / survivors;
}

/**
 * Checks that every component of a cohort of up to `members` can be drawn.
 * @throws CoveyError PRIVACY_NOISE if the first and smallest component is below the least variance of the sampler.
 */
export function checkComponents(members: number, totalVariance: number): void {
  const least = componentVariance(members, 1, totalVariance);
  if (!(least >= 0.25)) {
    throw new CoveyError(
      'PRIVACY_NOISE',
      `"xnoise" expected components of at least 0.25 squared units, got ${least} among ${members} members`,
      { members, totalVariance },
    );
  }
}

type NoiseTerms = Pick<SessionParams, 'minSurvivors' | 'noise'>;

/**
 * Adds a member's whole noise: the base from `stream`, each component from its own seed. Shapes: `components` are those
 * of the session's `contribute` effect, 1 to their number. Random: `stream` and the seeds. Secrets: both.
 * @throws CoveyError PRIVACY_NOISE if a component is missing or out of order: less noise than is charged.
 */
export function addDropoutNoise(
  crypto: CryptoProvider,
  values: Int32Array,
  params: NoiseTerms,
  members: number,
  components: readonly NoiseComponent[],
  stream: KeyStream,
): void {
  const expected = componentCount(params, members);
  if (components.length !== expected || components.some(({ number }, i) => number !== i + 1)) {
    throw new CoveyError('PRIVACY_NOISE', `"components" expected 1 to ${expected}, got ${components.length}`);
  }
  const total = totalVarianceOf(params);
  createSkellam(baseVariance(members, total)).add(values, stream);
  for (const { number, seed } of components) {
    createSkellam(componentVariance(members, number, total)).add(values, crypto.aes256Ctr(seed));
  }
}

/**
 * Takes components off an unmasked sum again: the same draws from the same seeds. Shapes: `sum` in packed words of the
 * session's ring; `components` of all survivors. Cost: one draw a coordinate and component. Secrets: the draws, wiped.
 */
export function removeDropoutNoise(
  crypto: CryptoProvider,
  sum: Uint32Array,
  params: NoiseTerms & Pick<SessionParams, 'layout' | 'ring'>,
  members: number,
  components: readonly NoiseComponent[],
): void {
  if (components.length === 0) return;
  const total = totalVarianceOf(params);
  const drawn = new Int32Array(coordinateCount(params));
  // One law after the other: a table is built once, however many members share it.
  for (const { number, seed } of components.toSorted((a, b) => a.number - b.number)) {
    createSkellam(componentVariance(members, number, total)).add(drawn, crypto.aes256Ctr(seed));
  }
  const words = packLanes(drawn, params.ring.lanes);
  subtractWords(sum, words, params.ring.lanes);
  drawn.fill(0);
  words.fill(0);
}
