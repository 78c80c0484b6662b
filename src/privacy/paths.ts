/**
 * Part of a release that a charge pays for. The parts of one vector share one clip and one noise, so a charge may name
 * several: it is one event, and any of its parts may hold all that the event bounds.
 *
 * `body`: shared layers. `slots`: hidden heads together (which one a member fills is hidden; without clusters the one
 * head). `cluster-j`: the model of an open cluster. `extra`: what an algorithm sums beside the models. `clip-count`:
 * updates within an adaptive clip. `selection`: choice of a slot. `metrics`: accuracies. `labels`: counts of classes.
 */
export type Path = 'body' | 'slots' | `cluster-${number}` | 'extra' | 'clip-count' | 'selection' | 'metrics' | 'labels';

/** Charges of ledgers that were written before charges named their paths. */
export const UNNAMED_PATH = 'unnamed';
/** What never leaves a participant: no event is ever charged to it. */
export const PERSONAL_PATH = 'personal';

const FIXED: readonly string[] = ['body', 'slots', 'extra', 'clip-count', 'selection', 'metrics', 'labels'];
const SHOWN = [
  'body',
  'slots',
  'cluster-',
  'extra',
  'clip-count',
  'selection',
  'metrics',
  'labels',
  UNNAMED_PATH,
  PERSONAL_PATH,
];

export function isPath(text: unknown): text is Path {
  return typeof text === 'string' && (FIXED.includes(text) || /^cluster-(0|[1-9]\d{0,3})$/.test(text));
}

/** Order in which paths are written and shown. */
export function comparePaths(a: string, b: string): number {
  const rank = (path: string): number =>
    SHOWN.findIndex((name) => path === name || (name === 'cluster-' && path.startsWith(name)));
  const number = (path: string): number => Number(path.split('-')[1]);
  return rank(a) - rank(b) || (number(a) || 0) - (number(b) || 0);
}

/**
 * Paths that share one event, told from the names of a vector's segments: the shared layers, the heads, an algorithm's own
 * sums, the count of an adaptive clip. `cluster`: of the open cluster whose model the heads are; null where slots are hidden.
 */
export function pathsOfSegments(segments: readonly string[], hasBody: boolean, cluster: number | null): Path[] {
  const paths = segments.flatMap((segment): Path[] => {
    if (segment === 'body') return hasBody ? ['body'] : [];
    if (/^slot-\d+$/.test(segment)) return [cluster === null ? 'slots' : `cluster-${cluster}`];
    return [segment.startsWith('clip-count') ? 'clip-count' : 'extra'];
  });
  return [...new Set(paths)].sort(comparePaths);
}
