import { createDataset, type Dataset } from '../src/data/dataset.ts';
import { createRandom, type DataRandom } from '../src/data/random.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';

/** Streams of the public generator: coins and directions of canaries. */
const COIN_STREAM = 0x636f_696e;
const DIRECTION_STREAM = 0x6469_7265;

/** Length of a canary's gradient before the clip: where nothing clips, it stands out by this factor. */
const CANARY_NORM = 64;

/** Fair coins that decide who is in. They are the audit's own and reach no score. */
export function tossCoins(seed: number, canaries: number): boolean[] {
  const random = createRandom(seed, COIN_STREAM);
  return Array.from({ length: canaries }, () => random.integer(2) === 1);
}

/** Coordinates below `length` that canaries point along, all different: their terms are orthogonal. */
export function canaryCoordinates(seed: number, canaries: number, length: number): Uint32Array {
  const coordinates = Uint32Array.from({ length }, (_, i) => i);
  createRandom(seed, DIRECTION_STREAM).shuffle(coordinates);
  return coordinates.slice(0, canaries);
}

/** Standard normal draw: sum of 12 uniforms is close enough for a direction. */
function drawCoordinate(random: DataRandom): number {
  let sum = -6;
  for (let i = 0; i < 12; i++) sum += random.uniform(0, 1);
  return sum;
}

/** Random unit directions over body and head. Shapes: canaries x dimension. */
export function canaryDirections(seed: number, canaries: number, dimension: number): Float64Array[] {
  const random = createRandom(seed, DIRECTION_STREAM);
  return Array.from({ length: canaries }, () => {
    const direction = Float64Array.from({ length: dimension }, () => drawCoordinate(random));
    const norm = Math.sqrt(direction.reduce((sum, value) => sum + value * value, 0));
    return direction.map((value) => value / norm);
  });
}

/** Blank records to hang canary gradients on. */
export function blankRecords(like: Dataset, count: number): Dataset {
  return createDataset(
    like.featureLength,
    like.classes,
    new Float32Array(count * like.featureLength),
    new Uint8Array(count),
  );
}

/** Number of the current session, kept by whoever sees the releases: public. */
export interface SessionClock {
  step: number;
}

/**
 * Oracle of an organization whose records from `from` on are canaries: the gradient of canary i is a long step along
 * coordinate `coordinates[i]` of body and head, with a sign that alternates from release to release.
 * A legitimate neighbour: the guarantee is for every gradient function that reads one record and public values, and the
 * sign depends on the public step alone. The alternation keeps the canary when two rounds are subtracted.
 */
export function recordCanaryOracle(
  base: GradientOracle,
  from: number,
  coordinates: readonly number[],
  clock: SessionClock,
): GradientOracle {
  const { recordGradients: _passes, ...engine } = base;
  return {
    ...engine,
    perRecordGradient(body, head, data, record, bodyGradient, headGradient) {
      if (record < from) return base.perRecordGradient(body, head, data, record, bodyGradient, headGradient);
      bodyGradient.fill(0);
      headGradient.fill(0);
      const at = coordinates[record - from] as number;
      const [gradient, i] = at < body.length ? [bodyGradient, at] : [headGradient, at - body.length];
      gradient[i] = clock.step % 2 === 0 ? CANARY_NORM : -CANARY_NORM;
      return 0;
    },
  };
}

/**
 * Oracle of a canary participant: whatever it holds, its update is a long step along `direction`.
 * A legitimate neighbour at unit `participant`: a participant may send anything, the clip bounds it.
 */
export function participantCanaryOracle(base: GradientOracle, direction: Float64Array): GradientOracle {
  return {
    ...base,
    meanGradient(_body, _head, _data, _records, bodyGradient, headGradient) {
      const far = direction.map((value) => value * CANARY_NORM);
      bodyGradient.set(far.subarray(0, bodyGradient.length));
      headGradient.set(far.subarray(bodyGradient.length));
      return 0;
    },
  };
}
