import type { SessionParams } from '../../protocol/session.ts';
import { createDataset, type Dataset } from '../../src/data/dataset.ts';
import type { GradientOracle } from '../../src/learning/oracle.ts';
import type { EpsilonReport } from '../../src/privacy/views.ts';
import type { RunConfig } from '../../src/run/config.ts';
import type { SessionOrder } from '../../src/run/order.ts';
import { planRun } from '../../src/run/plan.ts';
import { applyRelease, initialState, nextOrder, type ReleaseState, sumCoordinates } from '../../src/run/release.ts';
import type { SessionClock } from '../canaries.ts';
import { simulationStream } from '../comparison.ts';
import { runInProcess } from '../in-process.ts';
import { type AttackOptions, oracleOf } from './attack-report.ts';

/** Separates the noise of attacked runs from every other use of a seed. */
const NOISE_USE = 3;
/** Uses of a seed that are left to others between two trials. */
const TRIAL_USES = 256;

/** Everything that the coordinator has after a run. */
export interface Released {
  readonly orders: readonly SessionOrder[];
  readonly params: readonly SessionParams[];
  readonly sums: readonly Int32Array[];
  /** Models that each step started from. */
  readonly models: readonly ReleaseState['models'][];
  readonly claim: EpsilonReport;
}

export interface Site {
  readonly data: Dataset;
  readonly oracle: GradientOracle;
}

function emptySite(options: AttackOptions, config: RunConfig): Site {
  const { inputs, classes } = config.model;
  return {
    data: createDataset(inputs, classes, new Float32Array(0), new Uint8Array(0)),
    oracle: oracleOf(options, config.model),
  };
}

/** Runs the real contributions, noise, sums and decoding, and keeps what the coordinator sees and nothing else. Trials differ in their noise. */
export function observeRun(
  options: AttackOptions,
  config: RunConfig,
  organizations: readonly Site[],
  clock: SessionClock,
  trial = 0,
): Released {
  const { crypto, seed, secureSum } = options;
  const plan = planRun(config);
  const orders: SessionOrder[] = [];
  const params: SessionParams[] = [];
  const sums: Int32Array[] = [];
  const models: ReleaseState['models'][] = [];
  let state = initialState(config);
  const { epsilon } = runInProcess({
    config,
    crypto,
    organizations: [...organizations, ...Array.from({ length: options.idle ?? 0 }, () => emptySite(options, config))],
    runId: '61747461636b65642072756e00000000',
    random: simulationStream(crypto, seed, NOISE_USE + TRIAL_USES * trial),
    isPresent: () => true,
    ...(secureSum === undefined ? {} : { secureSum }),
    onRelease(session, sum, survivors) {
      orders.push(nextOrder(plan, state) as SessionOrder);
      params.push(session);
      sums.push(sumCoordinates(session, sum));
      models.push(state.models);
      // The coordinator's own replay: released sums alone lead to the models.
      state = applyRelease(crypto, config, plan, state, session, sum, survivors);
      clock.step += 1;
    },
  });
  const { unit, relation, delta } = config.privacy;
  const { colluders } = config.cohort;
  const claim: EpsilonReport = {
    epsilon: epsilon.server,
    delta,
    unit,
    relation,
    view: 'server',
    colluders,
    accountant: 'rdp',
  };
  return { orders, params, sums, models: [...models, state.models], claim };
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
