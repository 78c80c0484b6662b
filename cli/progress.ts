import type { RunProgress } from '../server/coordinator/progress.ts';

/** Zero: the sum is no larger than its noise alone would be. */
function signalText(ratio: number | null): string {
  if (ratio === null) return '';
  return ratio === 0 ? ', signal lost in noise' : `, signal to noise ${ratio.toPrecision(2)}`;
}

/** One line of text for a step of a run, or null for what only machines read. */
export function progressLine(progress: RunProgress): string | null {
  switch (progress.event) {
    case 'waiting':
      return `waiting: ${progress.connected} connected, ${progress.needed} needed`;
    case 'release': {
      const what = progress.kind === 'train' ? `step ${progress.step + 1}/${progress.steps}` : progress.kind;
      const metrics =
        progress.metrics === null
          ? ''
          : `, accuracy about ${progress.metrics.mean.toFixed(2)}, worst tenth ${progress.metrics.worstTenth.toFixed(2)}`;
      const counts =
        progress.counts === null
          ? ''
          : `, members per slot about ${progress.counts.map((count) => count.toFixed(1)).join(' ')}`;
      const signal = signalText(progress.signalToNoise);
      return `round ${progress.round} ${what}: ${progress.survivors} members, ${progress.dropped} dropped, epsilon ${progress.epsilonServer.toFixed(2)} of ${progress.targetEpsilon}${signal}${counts}${metrics}`;
    }
    case 'abort':
      return `round ${progress.round} given up while ${progress.phase}: ${progress.reason} [${progress.code}]`;
    case 'budget':
      return `stopped before a round that would exceed the budget: ${progress.remaining} members can pay for it, ${progress.needed} are needed; epsilon ${progress.epsilon.toFixed(2)} of ${progress.targetEpsilon}`;
    case 'left':
      return `${progress.organization} left before ${progress.kind} ${progress.step + 1}: ${progress.reason} [${progress.code}]`;
    case 'lost':
      return `${progress.organization} is lost`;
    case 'joined':
      return `${progress.organization} joined`;
    case 'finished':
      return `finished after ${progress.steps} steps`;
    case 'phase':
      return null;
  }
}
