/**
 * A value from outside for a message: one line of plain characters, cut to a length.
 * JSON may hold an object whose `toString` is no function, which `String` would throw on.
 */
export function shown(value: unknown, mostCharacters: number = 64): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, mostCharacters);
}
