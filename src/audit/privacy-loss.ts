import { eventFromJson } from '../privacy/event-json.ts';
import type { DpEvent } from '../privacy/events.ts';
import { comparePaths, type Path, PERSONAL_PATH } from '../privacy/paths.ts';
import type { View } from '../privacy/views.ts';
import { canonicalJson, type Json } from './canonical-json.ts';
import { derivePaths } from './derive-events.ts';
import type { ChargedEvents, Recomposer } from './recompose.ts';
import type { RunHistory, SessionHistory } from './replay.ts';

/** What one participant was charged so far, by canonical event. */
type Charges = Map<string, { readonly event: DpEvent; count: number }>;

function add(charges: Charges, events: readonly Json[]): void {
  for (const json of events) {
    const key = canonicalJson(json);
    const known = charges.get(key);
    if (known === undefined) charges.set(key, { event: eventFromJson(json), count: 1 });
    else known.count += 1;
  }
}

/** Charges of one view for every member, grown session by session. */
export class LossBook {
  readonly #view: View;
  readonly #charges = new Map<string, Charges>();

  constructor(view: View) {
    this.#view = view;
  }

  /** Adds what a session charged; released or not, a durable charge counts. */
  add(session: SessionHistory): void {
    for (const id of session.charge?.body.survivors ?? []) {
      const charges = this.#charges.get(id) ?? new Map();
      this.#charges.set(id, charges);
      add(charges, session.charge?.body.events[this.#view] ?? []);
    }
  }

  chargesOf(id: string): ChargedEvents {
    return [...(this.#charges.get(id)?.values() ?? [])];
  }

  /** Charges of all members, members with the same ones once: there are few different histories. */
  histories(): ChargedEvents[] {
    const distinct = new Map<string, ChargedEvents>();
    for (const charges of this.#charges.values()) {
      const key = [...charges]
        .map(([event, { count }]) => `${count}x${event}`)
        .sort()
        .join('|');
      distinct.set(key, [...charges.values()]);
    }
    return [...distinct.values()];
  }
}

/** Worst epsilon of any member after each charged session, in order. */
export function lossOverRounds(
  history: RunHistory,
  recomposer: Recomposer,
  view: View,
): { readonly round: number; readonly epsilon: number }[] {
  const delta = Number(history.open.plan.delta);
  const book = new LossBook(view);
  const losses: { round: number; epsilon: number }[] = [];
  for (const session of history.sessions) {
    if (session.charge === undefined) continue;
    book.add(session);
    const epsilon = Math.max(0, ...book.histories().map((charges) => recomposer.epsilon(charges, delta)));
    losses.push({ round: session.params.round, epsilon });
  }
  return losses;
}

/** Everything that the sessions of a run charged in one view, or the part of it that one path pays for. */
export function totalLoss(history: RunHistory, view: View, path?: Path): LossBook {
  const book = new LossBook(view);
  for (const session of history.sessions) {
    if (path === undefined || derivePaths(session.kind, session.params).includes(path)) book.add(session);
  }
  return book;
}

/** Paths that the charged sessions of a run released, told from their signed parameters. */
export function releasedPaths({ sessions }: RunHistory): Path[] {
  const charged = sessions.filter(({ charge }) => charge !== undefined);
  const paths = new Set(charged.flatMap(({ kind, params }) => derivePaths(kind, params)));
  return [...paths].sort(comparePaths);
}

/** Largest loss of any member by the events of one path, by view, given everything else. The parts of one vector share its event: never to be added up. */
export interface PathLoss {
  readonly path: string;
  readonly epsilon: Readonly<Record<View, number>>;
}

/** Loss of every path, and zero for what stays with the participants. */
export function lossByPath(history: RunHistory, recomposer: Recomposer): PathLoss[] {
  const delta = Number(history.open.plan.delta);
  const worst = (view: View, path: Path): number => {
    const histories = totalLoss(history, view, path).histories();
    return Math.max(0, ...histories.map((charges) => recomposer.epsilon(charges, delta)));
  };
  return [
    ...releasedPaths(history).map((path) => ({
      path,
      epsilon: { server: worst('server', path), release: worst('release', path) },
    })),
    { path: PERSONAL_PATH, epsilon: { server: 0, release: 0 } },
  ];
}
