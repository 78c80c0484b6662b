import { CoveyError } from '../../protocol/errors.ts';
import type { Algorithm } from './algorithm.ts';
import { ditto } from './algorithms/ditto.ts';
import { fedAdagrad, fedAdam, fedAvg, fedAvgM, fedYogi } from './algorithms/fedavg.ts';
import { fedProx } from './algorithms/fedprox.ts';
import { fedPer, fedRep, layerSharing } from './algorithms/fedrep.ts';
import { fedRod } from './algorithms/fedrod.ts';
import { perFedAvg, reptile } from './algorithms/meta.ts';
import { metaVers } from './algorithms/metavers.ts';
import { qFedAvg } from './algorithms/q-fedavg.ts';
import { scaffold } from './algorithms/scaffold.ts';
import { evolving, fedSoft, flsc, ifca } from './algorithms/slots.ts';

/** Algorithms that run; to add one, add a file and a line here. */
export const ALGORITHMS: readonly Algorithm[] = [
  fedAvg,
  fedAvgM,
  fedAdam,
  fedYogi,
  fedAdagrad,
  fedProx,
  scaffold,
  ditto,
  fedRep,
  fedPer,
  layerSharing,
  fedRod,
  perFedAvg,
  reptile,
  metaVers,
  ifca,
  evolving,
  flsc,
  fedSoft,
  qFedAvg,
];

/** Finds an algorithm by its id. @throws CoveyError USAGE_CONFIG for an unknown id. */
export function findAlgorithm(id: string): Algorithm {
  const found = ALGORITHMS.find(({ info }) => info.id === id);
  if (found !== undefined) return found;
  const known = ALGORITHMS.map(({ info }) => info.id).join(', ');
  throw new CoveyError('USAGE_CONFIG', `"algorithm.id" expected one of ${known}, got ${id}`);
}
