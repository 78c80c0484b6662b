/** Text that is safe between tags and in attributes. */
export function escapeMarkup(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Coordinates with two decimals and no trailing zeros: the same bytes for the same data. */
export function px(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** Least distance of two labels at the ends of lines. */
const LABEL_GAP = 15;

/** Moves labels apart, top to bottom, so that none covers another; up again where the last would pass `bottom`. */
export function spreadLabels(positions: readonly number[], bottom: number = Number.POSITIVE_INFINITY): number[] {
  const order = positions.map((y, i) => ({ y, i })).sort((a, b) => a.y - b.y);
  const placed = Array<number>(positions.length).fill(0);
  let previous = Number.NEGATIVE_INFINITY;
  for (const { y, i } of order) {
    previous = Math.max(y, previous + LABEL_GAP);
    placed[i] = previous;
  }
  let next = bottom + LABEL_GAP;
  for (const { i } of order.reverse()) {
    next = Math.min(placed[i] as number, next - LABEL_GAP);
    placed[i] = next;
  }
  return placed;
}
