/** A part of a JSON Schema. */
export type SchemaNode = Readonly<Record<string, unknown>>;

function rangeText(node: SchemaNode): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node;
  // Every integer has these two; they say nothing about the field.
  const isSafe = (value: unknown): boolean => Math.abs(Number(value)) === Number.MAX_SAFE_INTEGER;
  const low =
    typeof minimum === 'number' && !isSafe(minimum)
      ? `>= ${minimum}`
      : typeof exclusiveMinimum === 'number'
        ? `> ${exclusiveMinimum}`
        : '';
  const high =
    typeof maximum === 'number' && !isSafe(maximum)
      ? `<= ${maximum}`
      : typeof exclusiveMaximum === 'number'
        ? `< ${exclusiveMaximum}`
        : '';
  return [low, high].filter((part) => part !== '').join(' and ');
}

/** One alternative in words: `integer >= 3`, `one of "digits", "heart"`, `a list`. */
export function expectedText(node: SchemaNode): string {
  if (Array.isArray(node['enum']))
    return node['enum'].length === 1
      ? JSON.stringify(node['enum'][0])
      : `one of ${node['enum'].map((value) => JSON.stringify(value)).join(', ')}`;
  if (node['const'] !== undefined) return JSON.stringify(node['const']);
  switch (node['type']) {
    case 'integer':
    case 'number':
      return `${node['type']} ${rangeText(node)}`.trim();
    case 'string':
      return node['minLength'] === undefined ? 'text' : `text of at least ${Number(node['minLength'])} characters`;
    case 'boolean':
      return 'true or false';
    case 'array':
      return 'a list';
    case 'object':
      return 'a group of keys';
    case 'null':
      return 'nothing';
    default:
      return 'another value';
  }
}
