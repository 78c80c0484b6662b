import { InvalidArgumentError } from 'commander';

/** Parser of values separated by commas. @throws InvalidArgumentError for the first that does not fit. */
export function listOf<T>(one: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map((part) => one(part.trim()));
}

/** Parser of a number or the word `none`. */
export function orNone(one: (text: string) => number): (text: string) => number | 'none' {
  return (text) => (text === 'none' ? 'none' : one(text));
}

/** Parser of one of some words. @throws InvalidArgumentError */
export function wordOf<T extends string>(words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new InvalidArgumentError(`expected ${words.join(', ')}, got "${text}".`);
    return word;
  };
}

/** Collects `name=value` pairs of an option that may be given again. @throws InvalidArgumentError */
export function pairs(text: string, before: Readonly<Record<string, string>>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError(`expected name=value, got "${text}".`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
