import { compareBytes, hashParts, toHex, u32le, utf8 } from '../protocol/bytes.ts';
import type { CryptoProvider, RandomSource } from '../protocol/crypto-provider.ts';
import { CoveyError } from '../protocol/errors.ts';
import { idealSum, type SecureSum, type SessionDrops } from '../protocol/ideal.ts';
import { componentCount } from '../protocol/noise-seeds.ts';
import { nodeId } from '../protocol/params.ts';
import type { NoiseComponent, Roster, SessionParams } from '../protocol/session.ts';
import type { Dataset } from '../src/data/dataset.ts';
import type { LocalVectors } from '../src/learning/algorithm.ts';
import type { GradientOracle } from '../src/learning/oracle.ts';
import { type Accountant, rdpAccountant } from '../src/privacy/accountant.ts';
import { removeDropoutNoise } from '../src/privacy/dropout-noise.ts';
import type { JsonObject } from '../src/privacy/event-json.ts';
import type { View } from '../src/privacy/views.ts';
import type { RunConfig } from '../src/run/config.ts';
import { groupMembers, isInGroup } from '../src/run/groups.ts';
import { requireStart, type StartingWeights } from '../src/run/layout.ts';
import {
  contribute,
  type MemberState,
  missChoice,
  NEW_MEMBER,
  takeChoice,
  takeGaps,
  takeSeat,
} from '../src/run/member.ts';
import { orderParams, type RunFacts } from '../src/run/order.ts';
import { groupOf, planRun, type ScheduledSession, sessionEvents } from '../src/run/plan.ts';
import {
  applyRelease,
  initialState,
  nextOrder,
  type ReleaseState,
  seatsAreDistinct,
  sumCoordinates,
} from '../src/run/release.ts';
import { buildRoster } from '../src/run/roster.ts';

/** A federation in one process: the real contributions, summed through `SecureSum`. Labelled as simulated wherever shown. */
export interface InProcessOptions {
  readonly config: RunConfig;
  /** The weights that the configuration names, if it does. */
  readonly start?: StartingWeights | undefined;
  readonly runId: string;
  readonly crypto: CryptoProvider;
  /** Seeds of contributions; a fixed stream makes a run repeatable and therefore not private. */
  readonly random: RandomSource;
  readonly organizations: readonly {
    readonly data: Dataset;
    /** Held-out records, needed in a run with metrics. */
    readonly test?: Dataset;
    readonly oracle: GradientOracle;
    /** Records in place of `data` from a training step on, for drift. */
    readonly later?: { readonly fromStep: number; readonly data: Dataset };
  }[];
  /** Members that take part in a training step or choice; the rest are lost for good. */
  isPresent(organization: number, step: number): boolean;
  readonly secureSum?: SecureSum;
  onRelease?(params: SessionParams, sum: Uint32Array, survivors: number): void;
  /** After a release was applied: what the server and the members, whose slots nobody else sees, know now. */
  onState?(session: ScheduledSession, state: ReleaseState, members: readonly MemberState[]): void;
}

export interface InProcessResult {
  readonly state: ReleaseState;
  readonly members: readonly MemberState[];
  /** What the algorithm kept at each organization. */
  readonly locals: readonly LocalVectors[];
  readonly epsilon: { readonly server: number; readonly release: number };
  /** State of the accountant with the largest epsilon, by view. */
  readonly charges: Readonly<Record<View, JsonObject>>;
  readonly sessions: number;
  /** Vector bytes that one member uploads over the run. */
  readonly uploadBytes: number;
}

/** Public keys by seed: hundreds of runs in one process have the same members, whatever provider computes them. */
const simulatedKeys = new Map<string, Uint8Array>();

function publicKeyOf(crypto: CryptoProvider, seed: Uint8Array): Uint8Array {
  const name = toHex(seed);
  const key = simulatedKeys.get(name) ?? crypto.ed25519PublicKey(seed);
  simulatedKeys.set(name, key);
  return key;
}

/** Keys of simulated organizations: derived from their number, used for nothing but identifiers. */
export function simulatedRoster(
  crypto: CryptoProvider,
  members: number,
): { roster: Roster; ids: readonly Uint8Array[]; seeds: readonly Uint8Array[] } {
  const seeds = Array.from({ length: members }, (_, i) => hashParts(crypto, utf8('simulated organization'), u32le(i)));
  const keys = seeds.map((seed) => publicKeyOf(crypto, seed));
  const roster = buildRoster(
    crypto,
    1,
    keys.map((publicKey, i) => ({ organization: `org-${i + 1}`, publicKey })),
  );
  return { roster, ids: keys.map((key) => nodeId(crypto, key)), seeds };
}

/** Runs the whole schedule in this process. @throws CoveyError ROUND_BELOW_THRESHOLD if too few members are present. */
export function runInProcess(options: InProcessOptions): InProcessResult {
  const { config, crypto, organizations, random, runId } = options;
  const secureSum = options.secureSum ?? idealSum;
  const plan = planRun(config);
  const { roster, ids } = simulatedRoster(crypto, organizations.length);
  const facts: RunFacts = { runId, config, plan, roster };
  const members: MemberState[] = organizations.map(() => NEW_MEMBER);
  const locals: LocalVectors[] = organizations.map(() => ({}));
  requireStart(crypto, config, options.start);
  let state = initialState(config, options.start);
  const { relation } = config.privacy;
  const none = { server: rdpAccountant({ relation }), release: rdpAccountant({ relation }) };
  // Groups are disjoint: each pays for its own sessions.
  const accountants = new Map<number, Record<View, Accountant>>();
  let round = 0;
  let uploadBytes = 0;
  for (let order = nextOrder(plan, state); order !== null; order = nextOrder(plan, state)) {
    round += 1;
    const current = order;
    const params = orderParams(crypto, facts, current, { round, attempt: 0 });
    const group = groupMembers(crypto, facts, groupOf(current.session));
    const contributions = new Map<string, Uint32Array>();
    const proposed = new Map<number, LocalVectors>();
    let sessionBytes = 0;
    const present = ids.map((id, i) => isInGroup(group, id) && options.isPresent(i, current.session.step));
    const cohort = present.filter(Boolean).length;
    // Nobody is lost after its shares were dealt here: every removable part is added and taken off again.
    const removable: NoiseComponent[] = [];
    organizations.forEach(({ data: before, later, test, oracle }, i) => {
      const id = ids[i];
      const member = members[i];
      if (id === undefined || member === undefined || present[i] !== true) return;
      const parts = Array.from({ length: componentCount(params, cohort) }, (_, k) => ({
        number: k + 1,
        seed: random(32),
      }));
      removable.push(...parts);
      const local = locals[i] as LocalVectors;
      const data = later !== undefined && current.session.step >= later.fromStep ? later.data : before;
      const contribution = contribute(crypto, config, current, params, member, {
        data,
        test,
        oracle,
        local,
        seed: random(32),
        localNoise: plan.local,
        noise: { members: cohort, components: parts },
      });
      const { words } = contribution;
      members[i] = contribution.member;
      proposed.set(i, contribution.local);
      contributions.set(toHex(id), words);
      sessionBytes = words.byteLength;
    });
    if (groupOf(current.session) === 0) uploadBytes += sessionBytes;
    const drops: SessionDrops = {};
    const { sum, survivors } = secureSum(params, contributions, drops);
    removeDropoutNoise(crypto, sum, params, cohort, removable);
    if (survivors.length < config.cohort.minSurvivors) {
      throw new CoveyError(
        'ROUND_BELOW_THRESHOLD',
        `"survivors" expected at least ${config.cohort.minSurvivors}, got ${survivors.length}`,
      );
    }
    options.onRelease?.(params, sum, survivors.length);
    const coordinates = sumCoordinates(params, sum);
    if (current.session.kind === 'seats' && !seatsAreDistinct(coordinates, survivors.length)) continue;
    state = applyRelease(crypto, config, plan, state, params, sum, survivors.length);
    members.forEach((member, i) => {
      const id = ids[i];
      if (id === undefined) return;
      if (current.session.kind === 'gaps') members[i] = takeGaps(config, member, state.probes);
      if (!survivors.some((s) => compareBytes(s, id) === 0)) {
        if (current.session.kind === 'choice') members[i] = missChoice(config, member, coordinates);
        return;
      }
      locals[i] = proposed.get(i) ?? locals[i] ?? {};
      if (current.session.kind === 'seats') members[i] = takeSeat(member, coordinates);
      if (current.session.kind === 'choice')
        members[i] = takeChoice(config, member, current.session.choice, coordinates);
    });
    options.onState?.(current.session, state, members);
    const slots = current.models.heads.length;
    const spent = accountants.get(groupOf(current.session)) ?? none;
    const charge = (view: View): Accountant =>
      sessionEvents(config, plan, current.session, slots, survivors.length, view).reduce(
        (accountant, event) => accountant.compose(event),
        spent[view],
      );
    accountants.set(groupOf(current.session), { server: charge('server'), release: charge('release') });
  }
  const { delta } = config.privacy;
  const worst = (view: View): Accountant =>
    [...accountants.values()]
      .map((accountant) => accountant[view])
      .reduce((most, one) => (one.epsilon(delta) > most.epsilon(delta) ? one : most), none[view]);
  const [server, release] = [worst('server'), worst('release')];
  return {
    state,
    members,
    locals,
    epsilon: { server: server.epsilon(delta), release: release.epsilon(delta) },
    charges: { server: server.state(), release: release.state() },
    sessions: round,
    uploadBytes,
  };
}
