import type { CoveyError } from '../protocol/errors.ts';

/** Exit code of a command that ends with an error; documented in `covey --help` and docs/errors.md. */
export function exitCodeOf(error: CoveyError): number {
  switch (error.name) {
    case 'UsageError':
      return 2;
    case 'PrivacyError':
      return 3;
    case 'DependencyError':
      return 5;
    case 'InternalError':
      return 1;
    default:
      return 4;
  }
}
