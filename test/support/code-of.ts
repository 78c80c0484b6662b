import { CoveyError, type ErrorCode } from '../../protocol/errors.ts';

/** Code of the CoveyError that `act` throws; any other error passes through, and no error gives null. */
export function codeOf(act: () => unknown): ErrorCode | null {
  try {
    act();
  } catch (error) {
    if (error instanceof CoveyError) return error.code;
    throw error;
  }
  return null;
}
