import type { Dataset } from '../src/data/dataset.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';

interface Predicted {
  readonly body: Float64Array;
  readonly head: Float64Array;
  readonly classes: Uint8Array;
}

function isSame(a: Float64Array, b: Float64Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

/**
 * The same oracle, which predicts once for each model and set of records: hundreds of participants that share a test set
 * and a released model cost one pass over it. For models that change no more: it keeps them, not copies of them.
 */
export function rememberPredictions(oracle: GradientOracle): GradientOracle {
  const known = new WeakMap<Dataset, Predicted[]>();
  return {
    ...oracle,
    predict(body, head, data) {
      const before = known.get(data) ?? [];
      const found = before.find((entry) => isSame(entry.body, body) && isSame(entry.head, head));
      if (found !== undefined) return found.classes;
      const classes = oracle.predict(body, head, data);
      known.set(data, [...before, { body, head, classes }]);
      return classes;
    },
  };
}
