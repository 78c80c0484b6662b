/** Orders up to this are searched as reals, above as integers: there the best integer is as good to 1e-6. */
const MAX_REAL_ORDER = 256;
/** RDP below this order is ignored: the conversion divides by (order - 1). @see privacy F4 */
export const MIN_ORDER = 1.01;
export const MAX_ORDER = 65_536;

/** Bounds that are interpolated have kinks at integers: these are on the grid while they matter. */
const SMALL_INTEGERS = 16;
/** Grid minima that are refined; one is the rule, minima of several bounds may have more. */
const MAX_REFINED = 3;

/** Geometric grid in (order - 1) that brackets the optimum. */
function gridOrders(maxOrder: number): number[] {
  const orders = [maxOrder];
  for (let order = 2; order <= SMALL_INTEGERS; order++) orders.push(order);
  for (let distance = 0.0101; 1 + distance < maxOrder; distance *= 1.25) {
    orders.push(distance > SMALL_INTEGERS ? Math.round(1 + distance) : 1 + distance);
  }
  return [...new Set(orders)].sort((a, b) => a - b);
}

const GRID: readonly number[] = gridOrders(MAX_ORDER);
const WIDE_GRID: readonly number[] = gridOrders(1e15);
/** Where no early end is known, each order costs its full price. */
const SHORT_GRID: readonly number[] = gridOrders(1024);

const GOLDEN = (Math.sqrt(5) - 1) / 2;
/**
 * Distance of tried orders, in log(order - 1): at most 3e-8 is lost at a smooth minimum, and searches of similar curves
 * (one ledger, round after round) ask for the same orders again, which curves remember.
 */
const LATTICE = 2 ** -11;
const CLOSED_FORM_RESOLUTION = 1e-8;

export interface OrderSearch {
  /** Explicit orders: the minimum over exactly these is returned. */
  readonly orders?: readonly number[] | undefined;
  /** Every order may be real and as large as 1e15: for closed forms. */
  readonly closedForm?: boolean;
  /** True if no order >= `order` can go below `best`; without it the search ends at order 1024. */
  isHopeless?: ((order: number, best: number) => boolean) | undefined;
}

/** Golden-section search on log(order - 1) between two orders; `probe` keeps what it finds. */
function searchBetween(from: number, to: number, resolution: number, probe: (logDistance: number) => number): void {
  let low = Math.log(from - 1);
  let high = Math.log(to - 1);
  let left = high - GOLDEN * (high - low);
  let right = low + GOLDEN * (high - low);
  let [leftValue, rightValue] = [probe(left), probe(right)];
  while (high - low > resolution) {
    if (leftValue <= rightValue) {
      high = right;
      right = left;
      rightValue = leftValue;
      left = high - GOLDEN * (high - low);
      leftValue = probe(left);
    } else {
      low = left;
      left = right;
      leftValue = rightValue;
      right = low + GOLDEN * (high - low);
      rightValue = probe(right);
    }
  }
}

/**
 * Minimises a bound over orders. Every value it returns is a valid bound: a poor search costs tightness only.
 *
 * If the curve is a true RDP curve, (order - 1) times it is convex, so are the correction terms of F4 in the numerator,
 * and the bound has one minimum. A minimum of several bounds need not be convex: the grid is scanned, and its lowest
 * local minima are refined.
 */
export function minimiseOverOrders(
  objective: (order: number) => number,
  search: OrderSearch = {},
): { order: number; value: number } {
  const grid = search.isHopeless ? GRID : SHORT_GRID;
  const { orders = search.closedForm ? WIDE_GRID : grid } = search;
  let best = { order: orders[0] as number, value: Number.POSITIVE_INFINITY };
  const evaluate = (order: number): number => {
    const value = objective(order);
    if (value < best.value) best = { order, value };
    return value;
  };
  const values: number[] = [];
  for (const order of orders) {
    if (search.isHopeless?.(order, best.value)) break;
    values.push(evaluate(order));
  }
  if (search.orders || best.value === Number.POSITIVE_INFINITY) return best;
  const at = (i: number): number => values[i] ?? Number.POSITIVE_INFINITY;
  const minima = values
    .map((value, i) => ({ value, i }))
    .filter(({ value, i }) => value < Number.POSITIVE_INFINITY && value <= at(i - 1) && value <= at(i + 1))
    .sort((a, b) => a.value - b.value)
    .slice(0, MAX_REFINED);
  for (const { i } of minima) {
    const from = orders[Math.max(0, i - 1)] as number;
    const to = orders[Math.min(orders.length - 1, i + 1)] as number;
    if (search.closedForm) {
      searchBetween(from, to, CLOSED_FORM_RESOLUTION, (logDistance) => evaluate(1 + Math.exp(logDistance)));
    } else {
      searchBetween(from, to, LATTICE, (logDistance) => {
        const order = 1 + Math.exp(Math.round(logDistance / LATTICE) * LATTICE);
        return evaluate(order > MAX_REAL_ORDER ? Math.round(order) : order);
      });
    }
  }
  // Bounds that are interpolated between integer orders have their minimum at one.
  for (const order of [Math.floor(best.order), Math.ceil(best.order)]) if (order > 1) evaluate(order);
  return best;
}
