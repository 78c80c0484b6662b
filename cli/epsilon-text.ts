/** Three significant digits, rounded up: a printed epsilon never promises more than the exact one. */
export function epsilonText(epsilon: number): string {
  if (!Number.isFinite(epsilon)) return 'infinite';
  if (epsilon === 0) return '0';
  const step = 10 ** (Math.floor(Math.log10(epsilon)) - 2);
  return String(Number((Math.ceil(epsilon / step - 1e-9) * step).toPrecision(3)));
}

export const deltaText: (delta: number) => string = (delta) => delta.toExponential();
