import { CoveyError } from '../../protocol/errors.ts';

/** One option of a scenario and what it may be. */
export type OptionSpec =
  | { readonly kind: 'number'; readonly byDefault: number; readonly low: number; readonly high: number }
  | { readonly kind: 'integer'; readonly byDefault: number; readonly low: number; readonly high: number }
  | { readonly kind: 'choice'; readonly byDefault: string; readonly of: readonly string[] };

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;
export type OptionValues = Readonly<Record<string, string | number>>;
/** Values after defaults and checks. */
export type Options<S extends OptionSpecs> = {
  readonly [K in keyof S]: S[K] extends { readonly kind: 'choice'; readonly of: readonly (infer T)[] } ? T : number;
};

function readOption(name: string, spec: OptionSpec, given: string | number | undefined): string | number {
  if (given === undefined) return spec.byDefault;
  if (spec.kind === 'choice') {
    if (typeof given === 'string' && spec.of.includes(given)) return given;
    throw new CoveyError('USAGE_CONFIG', `"${name}" expected one of ${spec.of.join(', ')}, got ${given}`);
  }
  // Command lines bring text.
  const value = typeof given === 'string' && /^-?\d+(\.\d+)?$/.test(given) ? Number(given) : given;
  const { low, high, kind } = spec;
  if (typeof value === 'number' && value >= low && value <= high && (kind === 'number' || Number.isInteger(value)))
    return value;
  throw new CoveyError(
    'USAGE_CONFIG',
    `"${name}" expected ${kind === 'integer' ? 'an integer' : 'a number'} in [${low}, ${high}], got ${given}`,
  );
}

/** Fills in defaults. @throws CoveyError USAGE_CONFIG for an unknown option or a value that does not fit. */
export function readOptions<const S extends OptionSpecs>(specs: S, given: OptionValues): Options<S> {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(specs, name)) {
      const known = Object.keys(specs).join(', ') || 'none';
      throw new CoveyError('USAGE_CONFIG', `"options" expected names among ${known}, got ${name}`);
    }
  }
  return Object.fromEntries(
    Object.entries(specs).map(([name, spec]) => [name, readOption(name, spec, given[name])]),
  ) as Options<S>;
}
