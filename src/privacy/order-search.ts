/** Orders up to this are searched as reals, above as integers: there the best integer is as good to 1e-6. */
const MAX_REAL_ORDER = 256;
/** RDP below this order is ignored: the conversion divides by (order - 1). @see privacy F4 */
export const MIN_ORDER = 1.01;
export const MAX_ORDER = 65_536;

/** Geometric grid in (order - 1) that brackets the optimum; fine enough that each bracket holds one minimum. */
function geometricOrders(maxOrder: number): number[] {
  const orders: number[] = [];
  for (let distance = 0.0101; 1 + distance < maxOrder; distance *= 1.25) {
    const order = 1 + distance;
    orders.push(order > 20 ? Math.round(order) : order);
  }
  orders.push(maxOrder);
  return [...new Set(orders)];
}

const GRID: readonly number[] = geometricOrders(MAX_ORDER);
const WIDE_GRID: readonly number[] = geometricOrders(1e15);

const GOLDEN = (Math.sqrt(5) - 1) / 2;
const GOLDEN_STEPS = 34;

export interface OrderSearch {
  /** Explicit orders: the minimum over exactly these is returned. */
  readonly orders?: readonly number[] | undefined;
  /** Every order may be real and as large as 1e15: for closed forms. */
  readonly closedForm?: boolean;
  /** True if no order >= `order` can go below `best`. */
  isHopeless?(order: number, best: number): boolean;
}

/**
 * Minimises a bound over orders. Every value it returns is a valid bound: a poor search costs tightness only.
 *
 * If the curve is a true RDP curve, (order - 1) times it is convex, so are the correction terms of F4 in the numerator,
 * and the bound has one minimum; the grid is scanned nevertheless, for minima of several bounds need not be convex.
 */
export function minimiseOverOrders(
  objective: (order: number) => number,
  search: OrderSearch = {},
): { order: number; value: number } {
  const { orders = search.closedForm ? WIDE_GRID : GRID } = search;
  let at = 0;
  let best = { order: orders[0] as number, value: Number.POSITIVE_INFINITY };
  for (const [i, order] of orders.entries()) {
    if (search.isHopeless?.(order, best.value)) break;
    const value = objective(order);
    if (value < best.value) {
      best = { order, value };
      at = i;
    }
  }
  if (search.orders || best.value === Number.POSITIVE_INFINITY) return best;
  const snap = (t: number): number => {
    const order = 1 + Math.exp(t);
    return order > MAX_REAL_ORDER && !search.closedForm ? Math.round(order) : order;
  };
  const probe = (t: number, order = snap(t)): number => {
    const value = objective(order);
    if (value < best.value) best = { order, value };
    return value;
  };
  // Golden-section search on log(order - 1) between the neighbours of the best grid point.
  let low = Math.log((orders[Math.max(0, at - 1)] as number) - 1);
  let high = Math.log((orders[Math.min(orders.length - 1, at + 1)] as number) - 1);
  let left = high - GOLDEN * (high - low);
  let right = low + GOLDEN * (high - low);
  let [leftValue, rightValue] = [probe(left), probe(right)];
  for (let i = 0; i < GOLDEN_STEPS; i++) {
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
  // Bounds that are interpolated between integer orders have their minimum at one.
  for (const order of [Math.floor(best.order), Math.ceil(best.order)]) if (order > 1) probe(0, order);
  return best;
}
