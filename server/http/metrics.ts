import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { RunProgress } from '../coordinator/progress.ts';

/** What Prometheus may read about a run: public facts of the log and of connections, no number of a single participant. */
export interface Metrics {
  observe(progress: RunProgress): void;
  /** Text form of all metrics and its content type. */
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/**
 * Makes a registry of its own, so that several coordinators in one process do not mix. Units: in the names of the metrics.
 */
export function createMetrics(options: { connectedNodes(): number; readonly withProcess?: boolean }): Metrics {
  const registry = new Registry();
  const registers = [registry];
  if (options.withProcess !== false) collectDefaultMetrics({ register: registry, prefix: 'covey_' });
  new Gauge({
    name: 'covey_connected_nodes',
    help: 'Authenticated connections.',
    registers,
    collect() {
      this.set(options.connectedNodes());
    },
  });
  const released = new Counter({
    name: 'covey_releases_total',
    help: 'Released sums.',
    labelNames: ['kind'],
    registers,
  });
  const aborted = new Counter({
    name: 'covey_aborts_total',
    help: 'Sessions that released nothing.',
    labelNames: ['phase', 'code'],
    registers,
  });
  const losses = new Counter({
    name: 'covey_lost_nodes_total',
    help: 'Nodes that stayed away for longer than the grace period.',
    registers,
  });
  const leaves = new Counter({
    name: 'covey_left_nodes_total',
    help: 'Nodes that pay for no further session because their own budget is used up.',
    registers,
  });
  const round = new Gauge({ name: 'covey_round', help: 'Number of the latest session.', registers });
  const step = new Gauge({ name: 'covey_training_step', help: 'Latest released training step.', registers });
  const steps = new Gauge({ name: 'covey_training_steps', help: 'Training steps of the run.', registers });
  const survivors = new Gauge({ name: 'covey_survivors', help: 'Participants in the latest released sum.', registers });
  const epsilon = new Gauge({
    name: 'covey_epsilon',
    help: 'Largest epsilon of any participant, charged so far.',
    labelNames: ['view'],
    registers,
  });
  const accuracy = new Gauge({
    name: 'covey_protected_accuracy',
    help: 'Accuracy over the participants, from the latest charged noisy histogram.',
    labelNames: ['statistic'],
    registers,
  });
  const signal = new Gauge({
    name: 'covey_signal_to_noise',
    help: 'Norm of the signal in the latest released training sum over the norm of its noise.',
    registers,
  });
  const target = new Gauge({ name: 'covey_epsilon_target', help: 'Epsilon at which the run stops.', registers });
  const exhausted = new Gauge({
    name: 'covey_budget_exhausted',
    help: '1 once too few participants can pay for the next session.',
    registers,
  });
  const finished = new Gauge({ name: 'covey_run_finished', help: '1 once the schedule is done.', registers });

  return {
    observe(progress) {
      switch (progress.event) {
        case 'phase':
          round.set(progress.round);
          break;
        case 'release':
          released.inc({ kind: progress.kind });
          if (progress.kind === 'train') step.set(progress.step);
          steps.set(progress.steps);
          survivors.set(progress.survivors);
          epsilon.set({ view: 'server' }, progress.epsilonServer);
          epsilon.set({ view: 'release' }, progress.epsilonRelease);
          target.set(progress.targetEpsilon);
          if (progress.kind === 'train' && progress.signalToNoise !== null) signal.set(progress.signalToNoise);
          if (progress.metrics !== null) {
            accuracy.set({ statistic: 'mean' }, progress.metrics.mean);
            accuracy.set({ statistic: 'stddev' }, progress.metrics.stddev);
            accuracy.set({ statistic: 'worst_tenth' }, progress.metrics.worstTenth);
          }
          break;
        case 'abort':
          aborted.inc({ phase: progress.phase, code: progress.code });
          break;
        case 'budget':
          exhausted.set(1);
          break;
        case 'lost':
          losses.inc();
          break;
        case 'left':
          leaves.inc();
          break;
        case 'finished':
          finished.set(1);
          break;
        case 'waiting':
        case 'joined':
          break;
      }
    },
    async render() {
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}
