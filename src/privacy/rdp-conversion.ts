import { MIN_ORDER, minimiseOverOrders, type OrderSearch } from './order-search.ts';

/**
 * epsilon at one order: r + log((a-1)/a) - (log delta + log a)/(a-1).
 * @see Canonne, Kamath, Steinke 2020, Proposition 12; Asoodeh et al. 2020; privacy F4
 */
function epsilonAtOrder(order: number, rdp: number, delta: number): number {
  // Total variation is at most sqrt(1 - e^{-KL}), and KL is at most the divergence of any order.
  if (delta * delta + Math.expm1(-rdp) > 0) return 0;
  if (order <= MIN_ORDER) return Number.POSITIVE_INFINITY;
  return Math.max(0, rdp + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1));
}

/** log delta at one order, by the same proposition and by total variation. */
function logDeltaAtOrder(order: number, rdp: number, epsilon: number): number {
  const viaVariation = rdp === 0 ? Number.NEGATIVE_INFINITY : Math.log(-Math.expm1(-rdp)) / 2;
  if (order <= MIN_ORDER) return viaVariation;
  return Math.min(viaVariation, (order - 1) * (rdp - epsilon + Math.log1p(-1 / order)) - Math.log(order));
}

/** `isMonotone`: the curve never falls with the order, which lets the search end early; default true. */
export interface ConversionSearch extends Pick<OrderSearch, 'orders' | 'closedForm'> {
  readonly isMonotone?: boolean;
}

type Curve = (order: number) => number;

/** A curve that is asked twice for an order, by the bound and by the end of the search. */
function remember(curve: Curve): Curve {
  const values = new Map<number, number>();
  return (order) => {
    const value = values.get(order) ?? curve(order);
    values.set(order, value);
    return value;
  };
}

/** Least epsilon that an RDP curve gives at `delta`, over all orders. @see privacy F4 */
export function rdpToEpsilon(given: Curve, delta: number, search: ConversionSearch = {}): number {
  const curve = remember(given);
  // As -log delta > 0, this bounds epsilon at all larger orders from below.
  const isHopeless = (order: number, best: number): boolean =>
    best === 0 || curve(order) + Math.log1p(-1 / order) - Math.log(order) / (order - 1) >= best;
  return minimiseOverOrders((order) => epsilonAtOrder(order, curve(order), delta), {
    ...search,
    isHopeless: search.isMonotone === false ? undefined : isHopeless,
  }).value;
}

/**
 * Order at which an RDP curve needs the least epsilon at `delta`. No short cut by total variation: a curve within the
 * returned epsilon at this order is what a filter at this order admits. @see privacy F4, F22
 */
export function optimalOrder(
  given: Curve,
  delta: number,
  search: Pick<ConversionSearch, 'isMonotone'> = {},
): { readonly order: number; readonly epsilon: number } {
  const curve = remember(given);
  const epsilonAt = (order: number): number =>
    order <= MIN_ORDER ? Number.POSITIVE_INFINITY : curve(order) + conversionTerm(order, delta);
  const isHopeless = (order: number, best: number): boolean =>
    curve(order) + Math.log1p(-1 / order) - Math.log(order) / (order - 1) >= best;
  const { order, value } = minimiseOverOrders(epsilonAt, {
    isHopeless: search.isMonotone === false ? undefined : isHopeless,
  });
  return { order, epsilon: value };
}

/** What the conversion adds to the divergence at an order. @see privacy F4 */
export function conversionTerm(order: number, delta: number): number {
  return Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1);
}

/** Least delta that an RDP curve gives at `epsilon`, over all orders; at most 1. @see privacy F4 */
export function rdpToDelta(given: Curve, epsilon: number, search: ConversionSearch = {}): number {
  const curve = remember(given);
  // With r - epsilon >= gap from here on, log delta >= (a-1) gap - 1 - log a, which grows beyond a = 1 + 1/gap.
  const isHopeless = (order: number, best: number): boolean => {
    const gap = curve(order) - epsilon;
    return gap > 0 && order > 1 + 1 / gap && (order - 1) * gap - 1 - Math.log(order) >= best;
  };
  const { value } = minimiseOverOrders((order) => logDeltaAtOrder(order, curve(order), epsilon), {
    ...search,
    isHopeless: search.isMonotone === false ? undefined : isHopeless,
  });
  return Math.min(1, Math.exp(value));
}
