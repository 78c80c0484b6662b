/** Skeleton of a digit. Shapes: `points` x, y pairs in hundredths of a box (x right, y down); a stroke visits points in order. */
interface Glyph {
  readonly points: readonly number[];
  readonly strokes: readonly (readonly number[])[];
}

/** A digit as points around the middle of a unit square and the pairs of points that a line joins. */
export interface Skeleton {
  readonly points: Float64Array;
  /** Index pairs into the points. */
  readonly segments: Uint8Array;
}

// biome-ignore format: one digit a paragraph
const GLYPHS: readonly Glyph[] = [
  { points: [51, 0, 25, 11, 12, 37, 12, 64, 26, 90, 50, 100, 75, 90, 88, 63, 88, 36, 75, 10],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]] },
  { points: [26, 21, 55, 0, 55, 100],
    strokes: [[0, 1, 2]] },
  { points: [12, 26, 26, 6, 51, 0, 77, 8, 86, 29, 69, 53, 12, 100, 90, 100],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7]] },
  { points: [14, 9, 45, 0, 76, 8, 83, 27, 68, 43, 42, 48, 74, 55, 88, 73, 74, 94, 42, 100, 11, 91],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]] },
  { points: [62, 0, 10, 67, 92, 67, 68, 36, 68, 100],
    strokes: [[0, 1, 2], [3, 4]] },
  { points: [84, 0, 24, 0, 18, 44, 49, 38, 80, 48, 88, 70, 74, 93, 43, 100, 12, 90],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7, 8]] },
  { points: [74, 3, 41, 17, 18, 48, 14, 74, 30, 96, 58, 100, 82, 87, 84, 66, 66, 50, 40, 52],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2]] },
  { points: [10, 0, 90, 0, 42, 100],
    strokes: [[0, 1, 2]] },
  { points: [50, 47, 24, 35, 20, 16, 39, 1, 61, 1, 80, 16, 76, 35, 20, 62, 14, 84, 36, 100, 64, 100, 86, 84, 80, 62],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12, 0]] },
  { points: [82, 33, 60, 50, 35, 50, 16, 34, 18, 13, 42, 0, 70, 4, 85, 23, 79, 61, 61, 100],
    strokes: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] },
];

/** Skeletons of the digits 0 to 9, centred on the origin. */
export const SKELETONS: readonly Skeleton[] = GLYPHS.map(({ points, strokes }) => ({
  points: Float64Array.from(points, (value) => (value - 50) / 100),
  segments: Uint8Array.from(strokes.flatMap((stroke) => stroke.slice(1).flatMap((to, i) => [stroke[i] ?? 0, to]))),
}));
