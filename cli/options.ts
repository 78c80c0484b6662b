import { InvalidArgumentError } from 'commander';

/** Parser of an integer option. @throws InvalidArgumentError with the expected range. */
export function integerIn(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`expected an integer from ${low} to ${high}, got "${text}".`);
    }
    return value;
  };
}

/** Parser of a number option. @throws InvalidArgumentError with the expected range. */
export function numberIn(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < low || value > high) {
      throw new InvalidArgumentError(`expected a number from ${low} to ${high}, got "${text}".`);
    }
    return value;
  };
}
