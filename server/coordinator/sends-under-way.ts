/** Sends that may be under way before the next message is composed: the deliveries of a large cohort never exist all at once. */
const MOST_UNDER_WAY = 8;
/** Time after which sends that do not drain are no longer waited for; each has its own deadline in the transport. */
const PATIENCE_MS = 100;

/** Starts sends in order and lets them end in any order, so that a member that does not take them holds nobody else up. */
export interface SendsUnderWay {
  /**
   * Resolves when `send` was called. `onFault` hears of its failure, whenever that comes.
   * Memory: beside the members that do not drain, at most eight messages.
   */
  start(send: () => Promise<void>, onFault: (error: unknown) => void): Promise<void>;
}

export function createSendsUnderWay(): SendsUnderWay {
  const waitedFor = new Set<symbol>();
  let wake: () => void = () => undefined;

  const roomOrPatience = (): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => {
        waitedFor.clear();
        resolve();
      }, PATIENCE_MS);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  return {
    async start(send, onFault) {
      while (waitedFor.size >= MOST_UNDER_WAY) await roomOrPatience();
      const ticket = Symbol('send');
      waitedFor.add(ticket);
      const leave = (): void => {
        waitedFor.delete(ticket);
        wake();
      };
      // Called in this turn: what is sent to the same member later goes behind it.
      send().then(leave, (error) => {
        leave();
        onFault(error);
      });
    },
  };
}
