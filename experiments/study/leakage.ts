import { createRandom } from '../../src/data/random.ts';

/** Members of clusters by an attribute that nobody declared. Shapes: clusters (rows) x attribute values (columns). */
export type Contingency = readonly (readonly number[])[];

/** How well public memberships tell a hidden attribute of the members. Units: shares of the members; bits. */
export interface Leakage {
  readonly members: number;
  /** Guess the commonest attribute value for everybody: what is known without memberships. */
  readonly majority: number;
  /** Guess the commonest value of each cluster, the victim counted: as such results are usually published. */
  readonly inference: number;
  /** The same by somebody who knows the attribute of everybody but the victim: ties go against the guess. */
  readonly leaveOneOut: number;
  /** Between cluster and attribute, of the entropy of the attribute. */
  readonly bits: number;
  readonly entropy: number;
  /** Mean of `inference` over memberships drawn at random with the same sizes: what small clusters give by chance. */
  readonly chance: number;
  /** Share of these draws, the real one among them, that infer at least as well. */
  readonly pValue: number;
}

const PERMUTATIONS = 999;
/** Stream of the public generator for permutations. */
const PERMUTATION_STREAM = 0x7065_726d;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Members whose attribute is the commonest of their cluster. */
function hits(table: Contingency): number {
  return sum(table.map((row) => Math.max(...row)));
}

function entropyBits(counts: readonly number[]): number {
  const total = sum(counts);
  return -sum(counts.map((n) => (n === 0 ? 0 : (n / total) * Math.log2(n / total))));
}

/** Members whom the other members of the cluster give away. */
function leaveOneOutHits(row: readonly number[]): number {
  return sum(row.map((n, value) => (row.every((other, j) => j === value || other < n - 1) ? n : 0)));
}

/**
 * Measures attribute inference from memberships: an upper bound for whoever learns the members of clusters (mode `open`,
 * or a hidden slot that was linked), a lower bound of what a cleverer attack on the released models can do.
 * Random: permutations from the public generator, the same in every call.
 */
export function measureLeakage(table: Contingency): Leakage {
  const rows = table.filter((row) => sum(row) > 0);
  const columns = (rows[0] ?? []).map((_, value) => sum(rows.map((row) => row[value] ?? 0)));
  const members = sum(columns);
  const found = hits(rows);
  const sizes = rows.map(sum);
  const attributes = Uint32Array.from(columns.flatMap((n, value) => new Array<number>(n).fill(value)));
  const random = createRandom(1, PERMUTATION_STREAM);
  let [total, atLeast] = [0, 0];
  for (let draw = 0; draw < PERMUTATIONS; draw++) {
    random.shuffle(attributes);
    let at = 0;
    const drawn = sizes.map((size) => {
      const counts = columns.map(() => 0);
      for (let i = 0; i < size; i++) {
        const value = attributes[at++] as number;
        counts[value] = (counts[value] as number) + 1;
      }
      return counts;
    });
    const reached = hits(drawn);
    total += reached;
    if (reached >= found) atLeast += 1;
  }
  return {
    members,
    majority: Math.max(...columns) / members,
    inference: found / members,
    leaveOneOut: sum(rows.map(leaveOneOutHits)) / members,
    bits: entropyBits(columns) - sum(rows.map((row) => (sum(row) / members) * entropyBits(row))),
    entropy: entropyBits(columns),
    chance: total / (PERMUTATIONS * members),
    pValue: (1 + atLeast) / (PERMUTATIONS + 1),
  };
}
