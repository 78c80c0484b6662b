import { describe, expect, it } from 'vitest';
import { checkSession } from '../clients/core/policy.ts';
import { runInProcess } from '../experiments/in-process.ts';
import { realSum } from '../experiments/real-sum.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { toHex } from '../protocol/bytes.ts';
import { idealSum, type SecureSum } from '../protocol/ideal.ts';
import { decodeParams, encodeParams } from '../protocol/params.ts';
import { unpackLanes } from '../protocol/ring.ts';
import type { SessionParams } from '../protocol/session.ts';
import { serverConfigSchema } from '../server/config.ts';
import { selectRecords } from '../src/data/dataset.ts';
import { generateDigits } from '../src/data/digits.ts';
import { createDenseOracle } from '../src/learning/dense-oracle.ts';
import { createCharges, reserveCharge, settleCharge } from '../src/privacy/charges.ts';
import { totalForColluders } from '../src/privacy/dropout-noise.ts';
import type { SkellamEvent } from '../src/privacy/events.ts';
import { sumEvent } from '../src/privacy/sum-event.ts';
import { configHash, parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { contribute, NEW_MEMBER } from '../src/run/member.ts';
import { orderParams, type RunFacts, type SessionOrder } from '../src/run/order.ts';
import { planRun, sessionEvents, slotsAt } from '../src/run/plan.ts';
import { initialModels } from '../src/run/released.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { codeOf } from './support/code-of.ts';
import { repeatable } from './support/repeatable.ts';
import { createMembers } from './support/session-world.ts';

const PARTICIPANTS = 12;
const options = { seed: 5, steps: 3, targetEpsilon: 8, participants: PARTICIPANTS, mechanism: 'skellam' } as const;
const plain = scenarioConfig('digits', options);
const exact = scenarioConfig('digits', { ...options, xnoise: { tolerance: 3 } });
/** The same with shares among neighbours: as many colluders and losses as a graph of twelve bears. */
const sparse = parseRunConfig({
  ...exact,
  cohort: { ...exact.cohort, profile: 'sparse', minSurvivors: 10, minOrgs: 10, colluders: 1 },
  privacy: { ...exact.privacy, xnoise: { tolerance: 2 } },
});
const { minSurvivors, colluders } = exact.cohort;
const { roster } = createMembers(PARTICIPANTS);

const factsOf = (config: RunConfig): RunFacts => ({ runId: '0e'.repeat(16), config, plan: planRun(config), roster });
const orderOf = (config: RunConfig, kind: 'seats' | 'choice' | 'train'): SessionOrder => {
  const session = planRun(config).schedule.find((scheduled) => scheduled.kind === kind);
  if (session === undefined) throw new Error(`no ${kind} session`);
  const slots = kind === 'train' ? slotsAt(config, session.step) : (config.clusters?.foundingSlots ?? 1);
  return { session, models: initialModels(config, slots) };
};
const paramsOf = (config: RunConfig, kind: 'seats' | 'choice' | 'train'): SessionParams =>
  orderParams(nodeCrypto, factsOf(config), orderOf(config, kind), { round: 2, attempt: 0 });

describe('the configuration of dropout-exact noise', () => {
  const changed = (changes: { readonly [K in 'privacy' | 'cohort']?: Partial<RunConfig[K]> }): string => {
    try {
      parseRunConfig({
        ...exact,
        privacy: { ...exact.privacy, ...changes.privacy },
        cohort: { ...exact.cohort, ...changes.cohort },
      });
      return 'accepted';
    } catch (error) {
      return (error as Error).message;
    }
  };

  it('leaves the hash of every other configuration as it was', () => {
    expect(exact.privacy).toEqual({ ...plain.privacy, xnoise: { tolerance: 3 } });
    expect('xnoise' in plain.privacy).toBe(false);
    expect(toHex(configHash(nodeCrypto, exact))).not.toBe(toHex(configHash(nodeCrypto, plain)));
  });

  it('is refused in one line with another law, or a tolerance that cannot be', () => {
    expect(changed({})).toBe('accepted');
    expect(changed({ privacy: { mechanism: 'discrete-gaussian' } })).toBe(
      '"privacy.xnoise" expected privacy.mechanism skellam, got discrete-gaussian',
    );
    expect(changed({ privacy: { mechanism: undefined } })).toMatch(
      /"privacy.xnoise" expected .* got discrete-gaussian/,
    );
    const most = PARTICIPANTS - minSurvivors;
    expect(changed({ privacy: { xnoise: { tolerance: most } } })).toBe('accepted');
    expect(changed({ privacy: { xnoise: { tolerance: most + 1 } } })).toBe(
      `"privacy.xnoise.tolerance" expected at most ${most} (participants less minSurvivors), got ${most + 1}`,
    );
    for (const tolerance of [0, 65, 1.5]) expect(changed({ privacy: { xnoise: { tolerance } } })).toMatch(/xnoise/);
    expect(changed({ privacy: { xnoise: {} as never } })).toMatch(/"privacy.xnoise.tolerance"/);
  });

  it('is offered by the file of the coordinator', () => {
    const file = { key: 'k', federation: 'f', state: 's', run: { scenario: 'digits', mechanism: 'skellam' } };
    const withNoise = (xnoise: unknown): unknown => ({ ...file, run: { ...file.run, xnoise } });
    expect(serverConfigSchema.parse(withNoise({ tolerance: 2 })).run).toMatchObject({ xnoise: { tolerance: 2 } });
    expect(() => serverConfigSchema.parse(withNoise({ tolerance: 'two' }))).toThrow(/run/);
    expect(() => serverConfigSchema.parse(withNoise(2))).toThrow(/run/);
  });

  it('is refused where a component would be too small to be drawn', () => {
    const coarse = (scale: number): RunConfig => ({ ...exact, encoding: { scale, lanes: 2 } });
    expect(codeOf(() => planRun(coarse(8)))).toBeNull();
    expect(codeOf(() => planRun(coarse(1)))).toBe('PRIVACY_NOISE');
  });
});

describe('sessions of a run with dropout-exact noise', () => {
  it('name the tolerance in training steps and nowhere else; a site refuses any other', () => {
    expect(paramsOf(exact, 'train').noise).toEqual({ ...paramsOf(plain, 'train').noise, tolerance: 3 });
    for (const kind of ['seats', 'choice'] as const)
      if (kind === 'seats' || (exact.clusters?.choiceSteps.length ?? 0) > 0)
        expect('tolerance' in paramsOf(exact, kind).noise).toBe(false);
    const params = paramsOf(exact, 'train');
    expect(decodeParams(encodeParams(params)).noise).toEqual(params.noise);
    const order = orderOf(exact, 'train');
    const accepts = (noise: SessionParams['noise']): string | null =>
      codeOf(() => checkSession(nodeCrypto, factsOf(exact), order, { ...params, noise }));
    const { tolerance, ...without } = params.noise;
    expect(tolerance).toBe(3);
    expect(accepts(params.noise)).toBeNull();
    expect(accepts(without)).toBe('PRIVACY_POLICY');
    expect(accepts({ ...without, tolerance: 2 })).toBe('PRIVACY_POLICY');
    expect(accepts({ ...without, tolerance: 4 })).toBe('PRIVACY_POLICY');
  });

  it('refuse a contribution whose removable noise is missing', () => {
    const params = paramsOf(exact, 'train');
    const inputs = {
      data: generateDigits(5, 0).train,
      oracle: createDenseOracle(exact.model),
      local: {},
      seed: new Uint8Array(32),
    };
    const made = (noise: Parameters<typeof contribute>[5]['noise']): string | null =>
      codeOf(() => contribute(nodeCrypto, exact, orderOf(exact, 'train'), params, NEW_MEMBER, { ...inputs, noise }));
    const parts = [1, 2, 3].map((number) => ({ number, seed: new Uint8Array(32).fill(number) }));
    expect(made(undefined)).toBe('PRIVACY_NOISE');
    expect(made({ members: PARTICIPANTS, components: parts.slice(1) })).toBe('PRIVACY_NOISE');
    expect(made({ members: PARTICIPANTS, components: parts })).toBeNull();
  });
});

describe('the charge of dropout-exact noise', () => {
  const plan = planRun(exact);
  const train = plan.schedule.find(({ kind }) => kind === 'train') as (typeof plan.schedule)[number];
  const varianceOf = (config: RunConfig, survivors: number, view: 'server' | 'release' = 'server'): number => {
    const [event] = sessionEvents(config, planRun(config), train, 12, survivors, view);
    const sum = event?.kind === 'poissonSampled' ? event.event : event;
    return (sum as SkellamEvent).variance;
  };

  it('reserves the target and settles what the honest survivors carry of one total', () => {
    const total = minSurvivors * plan.shareVariance;
    const target = (minSurvivors - colluders) * plan.shareVariance;
    expect(varianceOf(exact, minSurvivors)).toBeCloseTo(target, -3);
    for (let u = minSurvivors; u <= PARTICIPANTS; u++) {
      expect(varianceOf(exact, u) / ((total * (u - colluders)) / u)).toBeCloseTo(1, 12);
      expect(varianceOf(exact, u)).toBeGreaterThanOrEqual(target * (1 - 1e-12));
      expect(varianceOf(plain, u) / ((u - colluders) * plan.shareVariance)).toBeCloseTo(1, 12);
    }
    expect(totalForColluders(target, minSurvivors, colluders) / total).toBeCloseTo(1, 12);
    // Without colluders not a bit more than the target, whoever survives.
    const lone: RunConfig = { ...exact, cohort: { ...exact.cohort, colluders: 0 } };
    const one = varianceOf(lone, minSurvivors);
    for (let u = minSurvivors; u <= PARTICIPANTS; u++) expect(varianceOf(lone, u) / one).toBeCloseTo(1, 12);
    expect(varianceOf(exact, PARTICIPANTS, 'release')).toBeLessThanOrEqual(varianceOf(exact, PARTICIPANTS));
  });

  it('is never more than the reserve', () => {
    const eventsFor = (u: number) => ({ server: sessionEvents(exact, plan, train, 12, u, 'server') });
    const reserved = reserveCharge(createCharges(['server'], 'add-remove'), 's', eventsFor(minSurvivors));
    for (let u = minSurvivors; u <= PARTICIPANTS; u++)
      expect(() => settleCharge(reserved, 's', eventsFor(u))).not.toThrow();
    expect(() => settleCharge(reserved, 's', eventsFor(minSurvivors - 1))).toThrow(/reserve/);
  });

  it('is refused for noise that is not closed under sums', () => {
    const terms = { sensitivity: 64, dimension: 256, samplingProbability: 1, colluders: 0, exactFor: 3 };
    expect(codeOf(() => sumEvent(terms, 100, 3, 'server'))).toBe('PRIVACY_NOISE');
    expect(codeOf(() => sumEvent({ ...terms, mechanism: 'skellam' }, 100, 3, 'server'))).toBeNull();
  });
});

describe('a simulated run with dropout-exact noise', () => {
  const run = (config: RunConfig, secureSum: SecureSum, releases: { params: SessionParams; sum: Uint32Array }[]) =>
    runInProcess({
      config,
      runId: '0f0e0d0c0b0a09080706050403020100',
      crypto: nodeCrypto,
      random: repeatable(7),
      organizations: Array.from({ length: PARTICIPANTS }, (_, i) => ({
        // No records: what is released is noise alone.
        data: selectRecords(generateDigits(5, i).train, new Uint32Array(0)),
        oracle: createDenseOracle(config.model),
      })),
      isPresent: (organization, step) => organization > 0 || step < 2,
      secureSum,
      onRelease: (params, sum) => releases.push({ params, sum: sum.slice() }),
    });

  it.each([
    ['strict', exact],
    ['sparse', sparse],
  ])(
    'gives the same bits by the machines and by the ideal sum, with one total of noise whoever is there (%s)',
    (profile, config) => {
      const [real, ideal]: { params: SessionParams; sum: Uint32Array }[][] = [[], []];
      const { epsilon } = run(config, realSum(PARTICIPANTS), real as never);
      run(config, idealSum, ideal as never);
      expect(real?.map(({ sum }) => sum)).toEqual(ideal?.map(({ sum }) => sum));
      expect(real?.every(({ params }) => params.profile === profile)).toBe(true);
      expect(epsilon.server).toBeLessThanOrEqual(8);
      for (const { params, sum } of ideal?.filter((release) => release.params.purpose === 'train') ?? []) {
        const width = params.layout.reduce((total, { length }) => total + length, 0);
        const values = unpackLanes(sum, width, params.ring.lanes);
        const energy = values.reduce((total, x) => total + x * x, 0) / width;
        const ratio = energy / (config.cohort.minSurvivors * params.noise.shareVariance);
        // Shares that stay as they are would give 12/9 and 11/9.
        expect(ratio).toBeGreaterThan(1 - 8 * Math.sqrt(2 / width));
        expect(ratio).toBeLessThan(1 + 8 * Math.sqrt(2 / width));
      }
    },
  );
});
