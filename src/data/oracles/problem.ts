import { toHex } from '../../../protocol/bytes.ts';
import type { CryptoProvider } from '../../../protocol/crypto-provider.ts';

/**
 * Records of one participant with real targets; a model f is fitted by the loss (f(x) - y)^2 / 2.
 * Shapes: `features` count x featureLength, row after row; `targets` count.
 */
export interface RegressionData {
  readonly count: number;
  readonly featureLength: number;
  readonly features: Float64Array;
  readonly targets: Float64Array;
}

/** A participant of a problem whose exact answer is known. */
export interface OracleParticipant {
  readonly train: RegressionData;
  /** True cluster, or 1 for a malicious participant; for reporting only. */
  readonly group?: number;
}

/** SHA-256 over features and targets of all the participants in order, as little-endian doubles, hex. */
export function oracleHash(crypto: Pick<CryptoProvider, 'sha256'>, participants: readonly OracleParticipant[]): string {
  const arrays = participants.flatMap(({ train }) => [train.features, train.targets]);
  const view = new DataView(new ArrayBuffer(8 * arrays.reduce((sum, values) => sum + values.length, 0)));
  let at = 0;
  for (const values of arrays) {
    for (const value of values) {
      view.setFloat64(at, value, true);
      at += 8;
    }
  }
  return toHex(crypto.sha256(new Uint8Array(view.buffer)));
}
