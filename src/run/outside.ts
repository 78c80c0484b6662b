import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import { addWords } from '../../protocol/ring.ts';
import type { SessionParams } from '../../protocol/session.ts';
import type { Dataset } from '../data/dataset.ts';
import type { LocalFit } from '../learning/algorithm.ts';
import type { EpochOptions } from '../learning/local-training.ts';
import { optimizerOf } from '../learning/optimizer.ts';
import { copyModel, type GradientOracle, type Model } from '../learning/oracle.ts';
import { fitOrKeep } from '../learning/record-rule-probe.ts';
import { flattenModel, MAX_GRADIENT_VALUES, parameterCount, splitModel, type Trainer } from '../learning/trainer.ts';
import { isFloatBounded, type RunConfig } from './config.ts';
import { checkFits } from './local-queries.ts';
import { type Contribution, contribute, type MemberInputs } from './member.ts';
import type { MemberState } from './member-model.ts';
import type { SessionOrder } from './order.ts';

/*
 * Contributions whose training is done by a program of the site. A contribution is a function of its inputs, so it is run
 * until it needs an answer, the answer is fetched, and it is run again from the start with all answers so far: the same
 * sample, the same rounding, and no second code path for what is released. Terms of records are a sum, so that they may
 * come in parts.
 */

/** A training program and how long all that one contribution asks of it may take. */
export interface OutsideTrainer {
  readonly trainer: Trainer;
  readonly timeLimitMs: number;
  monotonicMs(): number;
  /** Most values of gradients that are held at a time, 256 MiB if left out; more terms are added part by part. */
  readonly heldValues?: number | undefined;
  /** A task that failed counts as a zero update; the site should hear of it. */
  onFailure(error: CoveyError): void;
}

/**
 * Refuses runs that a training program cannot serve.
 * @throws CoveyError USAGE_CONFIG: the algorithm changes gradients between steps, or each gradient has its own noise.
 */
export function checkOutside(config: RunConfig): void {
  const { localNoise, unit } = config.privacy;
  if (isFloatBounded(config))
    throw new CoveyError(
      'USAGE_CONFIG',
      '"trainer" expected dense or tfjs in a run with float-bounded terms, got a program: its rows of gradients are rounded one by one',
    );
  if (localNoise !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"trainer" expected dense or tfjs with noise inside the organization, got a program',
    );
  if (unit === 'record') return;
  if (config.training.local?.batches !== undefined)
    throw new CoveyError(
      'USAGE_CONFIG',
      '"trainer" expected dense or tfjs with a number of batches, got a program: it trains whole epochs',
    );
  checkFits(config);
}

/**
 * Refuses a limit at which a program that hangs makes the upload late: everybody sees who is late (privacy 3.5).
 * @throws CoveyError USAGE_CONFIG
 */
export function checkTimeLimit({ deadlineMs }: RunConfig, { timeLimitMs }: Pick<OutsideTrainer, 'timeLimitMs'>): void {
  if (timeLimitMs < deadlineMs) return;
  throw new CoveyError(
    'USAGE_CONFIG',
    `"trainer.timeLimitMs" expected less than the ${deadlineMs} ms that the run gives to a step of a session, got ${timeLimitMs}`,
  );
}

/** Stops a contribution at the first training that nobody has done yet. */
class Unanswered extends Error {
  readonly data: Dataset;
  readonly start: Model;
  readonly epochs: EpochOptions;
  readonly seed: number;

  constructor(data: Dataset, start: Model, epochs: EpochOptions, seed: number) {
    super('unanswered');
    this.data = data;
    this.start = start;
    this.epochs = epochs;
    this.seed = seed;
  }
}

interface Wanted {
  readonly body: Float64Array;
  readonly head: Float64Array;
  readonly record: number;
}

/** Failures that are looked into before the rows of a contribution count as zeros: far more than a few bad records cause. */
const MAX_SPLIT_FAILURES = 64;

/** What a task costs in failures: they depend on the records, so they become zeros (privacy 3.5). Faults of the caller are thrown. */
function orZero<T>(error: unknown, { onFailure }: OutsideTrainer, zero: T): T {
  if (!isCoveyError(error) || !(error.code === 'USAGE_DIVERGED' || error.code.startsWith('DEP_TRAINER_'))) throw error;
  onFailure(error);
  return zero;
}

/** What a contribution has cost so far. */
interface Spent {
  readonly startedMs: number;
  failures: number;
  isLate: boolean;
}

/** Time that is left for a task; null, and the site is told once, if there is none. Nobody is to be late (privacy 3.5). */
function timeLeft({ monotonicMs, onFailure, timeLimitMs }: OutsideTrainer, spent: Spent): number | null {
  if (spent.isLate) return null;
  const left = timeLimitMs - (monotonicMs() - spent.startedMs);
  if (left > 0) return left;
  spent.isLate = true;
  onFailure(new CoveyError('DEP_TRAINER_TIMEOUT', `training expected an end within ${timeLimitMs} ms`));
  return null;
}

/** Gradients of the wanted records, those at the same model together. Shapes: one row for each. */
async function fetchRows(
  outside: OutsideTrainer,
  data: Dataset,
  wanted: readonly Wanted[],
  spent: Spent,
): Promise<Float32Array[]> {
  const { trainer } = outside;
  const length = parameterCount(trainer.manifest);
  const rows: Float32Array[] = Array.from(wanted, () => new Float32Array(length));
  const byHead = new Map<Float64Array, number[]>();
  wanted.forEach(({ head }, i) => {
    const places = byHead.get(head);
    if (places === undefined) byHead.set(head, [i]);
    else places.push(i);
  });
  const most = Math.max(1, Math.floor(MAX_GRADIENT_VALUES / length));
  for (const [head, places] of byHead) {
    const parameters = flattenModel({ body: wanted[places[0] as number]?.body ?? [], head });
    const blocks: number[][] = [];
    for (let start = 0; start < places.length; start += most) blocks.push(places.slice(start, start + most));
    for (let block = blocks.shift(); block !== undefined; block = blocks.shift()) {
      const timeLimitMs = timeLeft(outside, spent);
      if (timeLimitMs === null) return rows;
      const records = Uint32Array.from(block, (i) => (wanted[i] as Wanted).record);
      const task = { layout: trainer.layout, parameters, data, records, timeLimitMs };
      const answer = await trainer.recordGradients(task).catch((error) => {
        spent.isLate = isCoveyError(error, 'DEP_TRAINER_TIMEOUT');
        return orZero(error, outside, null);
      });
      block.forEach((i, row) => {
        if (answer !== null) rows[i] = answer.gradients.subarray(row * length, (row + 1) * length);
      });
      if (answer !== null || block.length === 1) continue;
      // A record that breaks the program must not take others along (record rule): both halves are asked again.
      spent.failures++;
      if (spent.failures > MAX_SPLIT_FAILURES) continue;
      const middle = block.length >> 1;
      blocks.unshift(block.slice(0, middle), block.slice(middle));
    }
  }
  return rows;
}

/**
 * Cuts the wanted gradients into parts that fit in memory: how many were drawn is private, so that no number of them may stop
 * the node. Rows of one person stay together, for they are clipped together.
 */
function* partsOf(
  { heldValues = MAX_GRADIENT_VALUES, trainer }: OutsideTrainer,
  wanted: readonly Wanted[],
  persons: Uint32Array | undefined,
): Generator<readonly [from: number, to: number]> {
  const most = Math.max(1, Math.floor(heldValues / parameterCount(trainer.manifest)));
  const personAt = (i: number): number | undefined => persons?.[wanted[i]?.record ?? 0];
  for (let from = 0; from < wanted.length; ) {
    let to = Math.min(wanted.length, from + most);
    if (persons !== undefined) while (to < wanted.length && personAt(to) === personAt(to - 1)) to++;
    yield [from, to];
    from = to;
  }
}

async function fetchFit(
  outside: OutsideTrainer,
  { data, epochs, seed, start }: Unanswered,
  spent: Spent,
): Promise<Model> {
  const { trainer } = outside;
  const timeLimitMs = timeLeft(outside, spent);
  if (timeLimitMs === null) return copyModel(start);
  const optimizer = optimizerOf(epochs.stepSize, epochs.optimizer);
  const task = { layout: trainer.layout, parameters: flattenModel(start), data, timeLimitMs };
  const batchSize = Math.min(epochs.batchSize, 1_000_000);
  const fitted = await fitOrKeep(trainer, { ...task, epochs: epochs.epochs, batchSize, optimizer, seed });
  if (fitted.failure === null) return splitModel(trainer.manifest, fitted.parameters);
  outside.onFailure(fitted.failure);
  return copyModel(start);
}

/**
 * As `contribute`, with the gradients of records or the local training of a program. Choices, metrics and personal parts
 * are computed here.
 * @throws CoveyError as `contribute`.
 */
export async function contributeOutside(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  member: MemberState,
  inputs: MemberInputs,
  outside: OutsideTrainer,
): Promise<Contribution> {
  const fits: Model[] = [];
  const spent: Spent = { startedMs: outside.monotonicMs(), failures: 0, isLate: false };
  /** One run, with the rows of the wanted gradients from `from` on and zeros for all others. */
  const runWith = (
    given: SessionParams,
    from: number,
    rows: readonly Float32Array[],
  ): { readonly wanted: readonly Wanted[]; readonly contribution: Contribution } => {
    const wanted: Wanted[] = [];
    let fit = 0;
    const { recordGradients: _passes, ...engine } = inputs.oracle;
    const oracle: GradientOracle = {
      ...engine,
      perRecordGradient(body, head, _data, record, bodyGradient, headGradient) {
        const row = rows[wanted.length - from];
        wanted.push({ body, head, record });
        bodyGradient.set(row?.subarray(0, body.length) ?? new Float32Array(body.length));
        headGradient.set(row?.subarray(body.length) ?? new Float32Array(head.length));
        return Number.NaN;
      },
    };
    const localFit: LocalFit = (data, start, epochs, seed) => {
      const answer = fits[fit++];
      if (answer === undefined) throw new Unanswered(data, copyModel(start), epochs, seed);
      return answer;
    };
    const contribution = contribute(crypto, config, order, given, member, { ...inputs, oracle, fit: localFit });
    return { wanted, contribution };
  };
  const answered = async (): Promise<ReturnType<typeof runWith>> => {
    for (;;) {
      try {
        return runWith(params, 0, []);
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        fits.push(await fetchFit(outside, error, spent));
      }
    }
  };
  const { contribution, wanted } = await answered();
  // Without rows every term is zero: so far it is the noise, to which the terms are added in the ring.
  const quiet: SessionParams = { ...params, noise: { mechanism: 'none', shareVariance: 0 } };
  const persons = config.privacy.perPerson === true ? inputs.data.persons : undefined;
  for (const [from, to] of partsOf(outside, wanted, persons)) {
    const rows = await fetchRows(outside, inputs.data, wanted.slice(from, to), spent);
    const { words } = runWith(quiet, from, rows).contribution;
    addWords(contribution.words, words, params.ring.lanes);
    words.fill(0);
  }
  return contribution;
}
