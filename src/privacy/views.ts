import { CoveyError } from '../../protocol/errors.ts';

/**
 * Who looks at the release: `server` is the coordinator, which adds no noise; `release` is a fellow participant or
 * anybody it tells, who knows its own share. @see privacy section 3
 */
export type View = 'server' | 'release';

export const VIEWS: readonly View[] = ['server', 'release'];

/**
 * Number of noise shares that protect a sum of `survivors` members against a viewer who knows `colluders` shares.
 * @throws CoveyError PRIVACY_NOISE if no honest share is left; USAGE_RANGE for what is not a count.
 * @see privacy section 3
 */
export function honestShares(view: View, survivors: number, colluders: number): number {
  if (!Number.isSafeInteger(survivors) || !Number.isSafeInteger(colluders) || colluders < 0) {
    throw new CoveyError(
      'USAGE_RANGE',
      `"survivors" and "colluders" expected counts, got ${survivors} and ${colluders}`,
    );
  }
  const known = view === 'server' ? colluders : Math.max(1, colluders);
  const shares = survivors - known;
  if (shares < 1) {
    throw new CoveyError('PRIVACY_NOISE', `"survivors" expected more than ${known} known shares, got ${survivors}`, {
      survivors,
      colluders,
    });
  }
  return shares;
}

/** Every epsilon leaves the library with what it means. Units: `delta` is the one epsilon was computed at. */
export interface EpsilonReport {
  readonly epsilon: number;
  readonly delta: number;
  readonly unit: 'record' | 'participant';
  readonly relation: 'add-remove' | 'zero-out' | 'replace-one';
  readonly view: View;
  readonly colluders: number;
  readonly accountant: string;
  /** The claim rests on a bound of float errors in the sums of records; left out where it rests on integers alone. */
  readonly sums?: 'float-bounded';
}
