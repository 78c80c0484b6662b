import { CoveyError } from '../../protocol/errors.ts';
import {
  type Accountant,
  type AccountantOptions,
  type Budget,
  type Charge,
  createAccountant,
  type Method,
} from './accountant-core.ts';
import { gaussianDelta, gaussianEpsilon } from './analytic-gaussian.ts';
import { eventFromJson, eventKey, type JsonObject } from './event-json.ts';
import { type DpEvent, RELATIONS, type Relation } from './events.ts';
import { pldAccountant, pldOptionsFromJson } from './pld.ts';
import { rdpToDelta, rdpToEpsilon } from './rdp-conversion.ts';
import { rdpMethod } from './rdp-method.ts';
import { zcdpCost } from './zcdp.ts';

export type { Accountant, AccountantOptions, Budget };
export { pldAccountant };

function requireOrders(orders: readonly number[] | undefined): readonly number[] | undefined {
  if (orders && (orders.length === 0 || orders.some((a) => !(a > 1 && a < Number.POSITIVE_INFINITY)))) {
    throw new CoveyError('USAGE_RANGE', '"orders" expected at least one order, all above 1');
  }
  return orders && [...orders].sort((a, b) => a - b);
}

/**
 * Renyi accountant: sums divergences at every real order and converts at the best one.
 * `orders` restricts the conversion to given orders, for comparison with published numbers.
 * @see Mironov 2017; privacy F1, F3, F4, F5, F9, F11, F12, F21
 */
export function rdpAccountant(options: AccountantOptions & { readonly orders?: readonly number[] } = {}): Accountant {
  const relation = options.relation ?? 'add-remove';
  return createAccountant(rdpMethod(relation, requireOrders(options.orders)), relation);
}

function zcdpMethod(relation: Relation): Method {
  const total = (charges: readonly Charge[]): ((order: number) => number) => {
    let [xi, rho] = [0, 0];
    for (const { event, count } of charges) {
      const cost = zcdpCost(event, relation);
      xi += count * cost.xi;
      rho += count * cost.rho;
    }
    return (order) => xi + rho * order;
  };
  return {
    name: 'zcdp',
    check: (event) => void zcdpCost(event, relation),
    epsilon: (charges, delta) => rdpToEpsilon(total(charges), delta, { closedForm: true }),
    delta: (charges, epsilon) => rdpToDelta(total(charges), epsilon, { closedForm: true }),
  };
}

/** Concentrated accountant: adds rho; a valid filter for adaptive runs. @see Bun, Steinke 2016; privacy F22 */
export function zcdpAccountant(options: AccountantOptions = {}): Accountant {
  const relation = options.relation ?? 'add-remove';
  return createAccountant(zcdpMethod(relation), relation);
}

function gdpMethod(): Method {
  const requireGaussian = (event: DpEvent): void => {
    if (event.kind === 'selfComposed') requireGaussian(event.event);
    else if (event.kind === 'composed') for (const part of event.events) requireGaussian(part);
    else if (event.kind !== 'gaussian' && event.kind !== 'nonPrivate') {
      throw new CoveyError(
        'PRIVACY_UNSUPPORTED_EVENT',
        `the gdp accountant expected Gaussian noise, got ${event.kind}`,
        {
          kind: event.kind,
        },
      );
    }
  };
  const mu = (charges: readonly Charge[]): number => {
    let squares = 0;
    for (const { event, count } of charges) {
      squares += event.kind === 'gaussian' ? count / event.noiseMultiplier ** 2 : Number.POSITIVE_INFINITY;
    }
    return Math.sqrt(squares);
  };
  return {
    name: 'gdp',
    check(event) {
      eventKey(event);
      requireGaussian(event);
    },
    epsilon: (charges, delta) => gaussianEpsilon(1 / mu(charges), delta),
    delta: (charges, epsilon) => gaussianDelta(1 / mu(charges), epsilon),
  };
}

/** Exact accountant of plain Gaussian noise: mu^2 adds. @see Dong, Roth, Su 2022; privacy F1, F2 */
export function gdpAccountant(options: AccountantOptions = {}): Accountant {
  return createAccountant(gdpMethod(), options.relation ?? 'add-remove');
}

/**
 * The accountant whose `state()` this is. Every event is read strictly and composed anew.
 * @throws CoveyError CODEC_TYPE for anything else.
 */
export function restoreAccountant(state: JsonObject): Accountant {
  const { accountant: name, relation, charges, options } = state as Readonly<Record<string, unknown>>;
  const makers = { rdp: rdpAccountant, zcdp: zcdpAccountant, gdp: gdpAccountant, pld: pldAccountant };
  const isState =
    typeof name === 'string' &&
    Object.hasOwn(makers, name) &&
    RELATIONS.includes(relation as Relation) &&
    Array.isArray(charges);
  const fields = name === 'pld' && options !== undefined ? 4 : 3;
  if (!isState || Object.keys(state).length !== fields) {
    throw new CoveyError('CODEC_TYPE', '"state" expected the state of an accountant');
  }
  const empty = makers[name as keyof typeof makers]({
    ...(fields === 4 ? pldOptionsFromJson(options) : {}),
    relation: relation as Relation,
  });
  return (charges as readonly { count: number; event: unknown }[]).reduce<Accountant>(
    (restored, { count, event }) => restored.compose(eventFromJson(event), count),
    empty,
  );
}
