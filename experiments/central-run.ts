import type { CryptoProvider } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import { drawNormal } from '../src/data/draws.ts';
import { createRandom } from '../src/data/random.ts';
import type { LocalVectors } from '../src/learning/algorithm.ts';
import { eachUnitGradient } from '../src/learning/unit-gradient.ts';
import { rdpAccountant } from '../src/privacy/accountant.ts';
import { calibrateNoiseMultiplier } from '../src/privacy/calibrate.ts';
import { jointNorm } from '../src/privacy/encode.ts';
import type { DpEvent } from '../src/privacy/events.ts';
import { algorithmOf } from '../src/run/algorithm.ts';
import { type RunConfig, sendsUpdates } from '../src/run/config.ts';
import { NEW_MEMBER } from '../src/run/member.ts';
import type { SessionOrder } from '../src/run/order.ts';
import { planRun, type RunPlan, trainingBlocks } from '../src/run/plan.ts';
import { applyDecodedSums, initialState, nextOrder } from '../src/run/release.ts';
import { planTerms, type RecordInputs, streamOf } from '../src/run/term-plan.ts';
import { localContext, orderRandom, placeInSlot } from '../src/run/update.ts';
import type { InProcessOptions, InProcessResult } from './in-process.ts';

/*
 * What a run would be with a curator whom everybody trusts: exact sums of clipped updates and continuous Gaussian noise that the
 * curator adds. It says what integers, lanes and noise in shares cost, and exists in experiments alone: no configuration of a
 * run names it, and no member takes part in one. Minibatches, samples and everything local are those of the deployed run of
 * the same seed.
 */

const NOISE_STREAM = 0x6365_6e74;

/** Noise deviation over the clip of a run with continuous Gaussian noise, and what one of its steps costs. */
export function centralNoise({ privacy, training }: Pick<RunConfig, 'privacy' | 'training'>): {
  readonly noiseMultiplier: number;
  readonly event: DpEvent;
} {
  const { delta, relation, targetEpsilon: epsilon } = privacy;
  const { samplingProbability: probability, steps } = training;
  const eventOf = (noiseMultiplier: number): DpEvent => {
    const gaussian = { kind: 'gaussian', noiseMultiplier } as const;
    return probability === 1 ? gaussian : { kind: 'poissonSampled', probability, event: gaussian };
  };
  const build = (z: number): { event: DpEvent; count: number }[] => [{ event: eventOf(z), count: steps }];
  const noiseMultiplier = calibrateNoiseMultiplier({ epsilon, delta }, build, rdpAccountant({ relation }));
  return { noiseMultiplier, event: eventOf(noiseMultiplier) };
}

/** @throws CoveyError USAGE_CONFIG for a run that is more than sums of steps over everybody. */
function requirePlain(
  { training: { adaptiveClip, local, lossThreshold }, privacy, ...config }: RunConfig,
  plan: RunPlan,
): void {
  const others = [config.clusters, privacy.localNoise, privacy.xnoise, adaptiveClip, lossThreshold, local?.curriculum];
  const isPlain = others.every((part) => part === undefined || part === null);
  if (!isPlain || plan.schedule.some((session) => session.kind !== 'train' || session.group !== undefined))
    throw new CoveyError(
      'USAGE_CONFIG',
      '"noise" expected shared with clusters, curricula, label counts or metrics: central noise is a comparison for plain sums',
    );
}

/** Adds a vector of several parts under one joint clip; one that is not finite adds nothing. */
function addClipped(sums: readonly Float64Array[], parts: readonly ArrayLike<number>[], clippingNorm: number): void {
  const norm = jointNorm(parts.map((part) => Float64Array.from(part)));
  if (!(norm < Number.POSITIVE_INFINITY)) return;
  const factor = norm > clippingNorm ? clippingNorm / norm : 1;
  sums.forEach((sum, i) => {
    const part = parts[i] as ArrayLike<number>;
    for (let k = 0; k < sum.length; k++) sum[k] = (sum[k] as number) + factor * (part[k] as number);
  });
}

/** Adds what a member contributes to a step; returns what its algorithm keeps. */
function addMember(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  inputs: RecordInputs & { readonly local: LocalVectors },
  sums: readonly Float64Array[],
): LocalVectors {
  const { clippingNorm } = config.training;
  const { algorithm } = algorithmOf(config);
  const { data, local, oracle, seed } = inputs;
  if (data.count === 0) return local;
  const placement = placeInSlot(1, 0, order.models.heads[0] as Float32Array);
  const random = orderRandom(streamOf(crypto, seed, 'order'));
  const context = localContext(config, order.models, placement, order.session.step, inputs, random);
  let kept = local;
  if (sendsUpdates(config)) {
    const update = algorithm.update?.(context);
    if (update === undefined) return local;
    const { body, extra = [], head } = update;
    addClipped(sums, algorithm.shares === 'body' ? [body, ...extra] : [body, head, ...extra], clippingNorm);
    kept = { ...local, ...update.local };
  } else {
    const { body, groups, units } = planTerms(crypto, config, order, placement, inputs);
    for (const { head, units: drawn } of groups) {
      const term = { body: new Float64Array(body.length), head: new Float64Array(head.length) };
      const parts = algorithm.shares === 'body' ? [term.body] : [term.body, term.head];
      const chosen = drawn.map((unit) => units[unit] ?? []);
      eachUnitGradient(oracle, data, { body, head }, chosen, term, () => addClipped(sums, parts, clippingNorm));
    }
  }
  return { ...kept, ...algorithm.keep?.(context) };
}

/**
 * Runs the schedule of a configuration with a trusted curator: continuous Gaussian noise for the same target epsilon (RDP).
 * Random: seeds of members as `runInProcess` draws them. @throws CoveyError USAGE_CONFIG for clusters and other releases.
 */
export function runCentral(
  options: InProcessOptions & { onSums?(sums: readonly Float64Array[]): void },
): InProcessResult {
  const { config, crypto, organizations, random } = options;
  const plan = planRun(config);
  requirePlain(config, plan);
  const { event, noiseMultiplier } = centralNoise(config);
  const noiseStddev = noiseMultiplier * config.training.clippingNorm;
  const noise = createRandom(config.data.seed, NOISE_STREAM);
  const lengths = trainingBlocks(config, 1).map(({ realLength }) => realLength);
  const locals: LocalVectors[] = organizations.map(() => ({}));
  let state = initialState(config, options.start);
  let sessions = 0;
  for (let order = nextOrder(plan, state); order !== null; order = nextOrder(plan, state)) {
    const current = order;
    const { step } = current.session;
    const sums = lengths.map((length) => new Float64Array(length));
    const present = organizations.flatMap((_, i) => (options.isPresent(i, step) ? [i] : []));
    for (const i of present) {
      const { data: before, later, oracle } = organizations[i] as (typeof organizations)[number];
      const data = later !== undefined && step >= later.fromStep ? later.data : before;
      const inputs = { data, oracle, seed: random(32), local: locals[i] as LocalVectors };
      locals[i] = addMember(crypto, config, current, inputs, sums);
    }
    for (const sum of sums)
      for (let k = 0; k < sum.length; k++) sum[k] = (sum[k] as number) + noiseStddev * drawNormal(noise);
    options.onSums?.(sums);
    const facts = { survivors: present.length, clippingNorm: config.training.clippingNorm };
    state = applyDecodedSums(config, state, current.session, sums, facts);
    sessions += 1;
  }
  const { relation, delta } = config.privacy;
  const accountant = rdpAccountant({ relation }).compose(event, sessions);
  const epsilon = accountant.epsilon(delta);
  return {
    state,
    members: organizations.map(() => NEW_MEMBER),
    locals,
    // The curator sees everything; what it releases is all that anybody else sees.
    epsilon: { server: epsilon, release: epsilon },
    charges: { server: accountant.state(), release: accountant.state() },
    sessions,
    uploadBytes: 4 * sessions * lengths.reduce((total, length) => total + length, 0),
  };
}
