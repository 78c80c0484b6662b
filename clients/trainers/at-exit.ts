const actions = new Set<() => void>();
const runAll = (): void => {
  for (const act of actions) act();
};

/**
 * Runs `act` when this process ends by itself (synchronously, so it must not wait for anything), unless the returned
 * function is called before. Not guaranteed: anything if the process is killed.
 */
export function atExit(act: () => void): () => void {
  if (actions.size === 0) process.on('exit', runAll);
  actions.add(act);
  return () => {
    actions.delete(act);
    if (actions.size === 0) process.off('exit', runAll);
  };
}
