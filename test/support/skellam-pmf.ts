/** Poisson probabilities from its mode outwards, so that nothing underflows that matters; normalized. */
function poissonMass(mean: number): { readonly from: number; readonly mass: Float64Array } {
  const spread = Math.ceil(14 * Math.sqrt(mean) + 40);
  const mode = Math.floor(mean);
  const from = Math.max(0, mode - spread);
  const mass = new Float64Array(mode + spread - from + 1);
  mass[mode - from] = 1;
  for (let k = mode; k > from; k--) mass[k - 1 - from] = ((mass[k - from] as number) * k) / mean;
  for (let k = mode + 1; k - from < mass.length; k++) mass[k - from] = ((mass[k - 1 - from] as number) * mean) / k;
  const total = mass.reduce((a, b) => a + b, 0);
  return { from, mass: mass.map((m) => m / total) };
}

/** Probabilities of Skellam noise out to 10 deviations (at least 40), by correlating two Poisson laws of mean variance / 2. */
export function skellamPmf(variance: number): Map<number, number> {
  const { mass } = poissonMass(variance / 2);
  const reach = Math.min(mass.length - 1, Math.max(40, Math.ceil(10 * Math.sqrt(variance))));
  const half: number[] = [];
  for (let x = 0; x <= reach; x++) {
    let sum = 0;
    for (let k = 0; k + x < mass.length; k++) sum += (mass[k] as number) * (mass[k + x] as number);
    half.push(sum);
  }
  const pmf = new Map<number, number>();
  for (let x = -reach; x <= reach; x++) pmf.set(x, half[Math.abs(x)] as number);
  return pmf;
}
