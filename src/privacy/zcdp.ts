import { CoveyError } from '../../protocol/errors.ts';
import { eventKey } from './event-json.ts';
import type { DpEvent, Relation } from './events.ts';
import { describeDiscreteGaussianSum } from './rdp-curve.ts';

/** (xi, rho)-concentrated privacy: RDP of order alpha is at most xi + rho alpha at every alpha > 1. */
export interface ZcdpCost {
  readonly xi: number;
  readonly rho: number;
}

/**
 * Concentrated cost of an event.
 * @throws CoveyError PRIVACY_UNSUPPORTED_EVENT: sampling amplifies RDP of each order differently and Skellam noise is
 * bounded at integer orders only, so neither is zCDP here.
 * @see Bun, Steinke 2016; Cesar, Rogers 2021 (bounded range); privacy F1, F11, F21
 */
export function zcdpCost(event: DpEvent, relation: Relation): ZcdpCost {
  eventKey(event);
  switch (event.kind) {
    case 'gaussian':
      return { xi: 0, rho: 1 / (2 * event.noiseMultiplier ** 2) };
    case 'discreteGaussian': {
      const { l1Sensitivity, l2Sensitivity, variance, tau, dimension } = describeDiscreteGaussianSum(event);
      // The second and third bound of F11 are linear in the order.
      const viaL1 =
        l2Sensitivity ** 2 / variance + (2 * l1Sensitivity * tau) / Math.sqrt(variance) + tau * tau * dimension;
      const direct = (l2Sensitivity / Math.sqrt(variance) + Math.sqrt(dimension) * tau) ** 2;
      return { xi: 0, rho: Math.min(viaL1, direct) / 2 };
    }
    case 'laplace':
      return { xi: 0, rho: 1 / (2 * event.noiseMultiplier ** 2) };
    case 'exponentialMechanism':
      return { xi: 0, rho: event.epsilon ** 2 / 8 };
    case 'permuteAndFlip':
      return { xi: 0, rho: event.epsilon ** 2 / 2 };
    case 'zCdp':
      return { xi: event.xi ?? 0, rho: event.rho };
    case 'selfComposed': {
      const { xi, rho } = zcdpCost(event.event, relation);
      return { xi: event.count * xi, rho: event.count * rho };
    }
    case 'composed': {
      let [xi, rho] = [0, 0];
      for (const part of event.events) {
        const cost = zcdpCost(part, relation);
        xi += cost.xi;
        rho += cost.rho;
      }
      return { xi, rho };
    }
    case 'nonPrivate':
      return { xi: Number.POSITIVE_INFINITY, rho: 0 };
    default:
      throw new CoveyError(
        'PRIVACY_UNSUPPORTED_EVENT',
        `the zcdp accountant expected an unsampled event, got ${event.kind}`,
        {
          kind: event.kind,
        },
      );
  }
}
