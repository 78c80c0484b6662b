import { nodeCrypto } from '../../platform/node/crypto.ts';
import { type Cohort, checkAdvertisements, checkReveals } from '../../protocol/cohort.ts';
import type { Graph } from '../../protocol/graph.ts';
import { decodeBodies } from '../../protocol/messages.ts';
import type { SessionMessage, SessionParams } from '../../protocol/session.ts';
import { sidOf } from './malice.ts';
import type { World } from './session-world.ts';

/** For 12 members, of whom one may collude and two may vanish: k = 8, t = 5, q = 7, a = 1, the committee is everybody. */
export const SPARSE: Partial<SessionParams> = { profile: 'sparse', colluders: 1, dropoutFraction: 0.17 };
export const SPARSE_MEMBERS = 12;

/** The cohort with its graph, from the lists that the coordinator of the world sent first. */
export function sparseCohort(world: World): Cohort & { readonly graph: Graph } {
  const list = (type: 'p1-all' | 'p1r-all'): Uint8Array =>
    world.received.find(({ message }) => message.type === type)?.message.attachment as Uint8Array;
  const context = { crypto: nodeCrypto, roster: world.roster, params: world.params, sid: sidOf(world) };
  const members = checkAdvertisements(context, decodeBodies('p1', list('p1-all')));
  return checkReveals(context, members, decodeBodies('p1r', list('p1r-all'))) as Cohort & { readonly graph: Graph };
}

/** The cohort of a P1 list, before its graph is drawn. */
export function plannedCohort(world: World, members: SessionMessage): Cohort {
  const context = { crypto: nodeCrypto, roster: world.roster, params: world.params, sid: sidOf(world) };
  return checkAdvertisements(context, decodeBodies('p1', members.attachment));
}
