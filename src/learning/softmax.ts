/** Turns the logits of one record into output errors (softmax minus one-hot) in place; returns the cross entropy. */
export function softmaxErrors(logits: Float64Array, at: number, classes: number, label: number): number {
  let highest = logits[at] as number;
  for (let c = 1; c < classes; c++) {
    const logit = logits[at + c] as number;
    if (logit > highest) highest = logit;
  }
  const own = logits[at + label] as number;
  let total = 0;
  for (let c = 0; c < classes; c++) {
    const weight = Math.exp((logits[at + c] as number) - highest);
    logits[at + c] = weight;
    total += weight;
  }
  for (let c = 0; c < classes; c++) logits[at + c] = (logits[at + c] as number) / total;
  logits[at + label] = (logits[at + label] as number) - 1;
  return Math.log(total) + highest - own;
}
