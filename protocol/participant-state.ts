import type { Cohort, Dealers } from './cohort.ts';
import type { SessionSecrets } from './key-schedule.ts';
import { type HeldShares, type PeerSecrets, secretsOfShares } from './participant-share.ts';
import type { Agreement } from './participant-unmask.ts';
import type {
  MaskSeed,
  MessageType,
  NoiseComponent,
  Purpose,
  Roster,
  SessionMessage,
  SessionParams,
} from './session.ts';

/** Long-term keys of a node. Secrets: `secretSeed` signs every message of the node. */
export interface ParticipantIdentity {
  readonly id: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly secretSeed: Uint8Array;
}

/** What a participant pins out of band. */
export interface ParticipantTrust {
  readonly coordinatorKey: Uint8Array;
  readonly roster: Roster;
}

/** Where a participant stands in a run: the newest session that it entered, and whether its number is spent. */
export interface RunPosition {
  readonly round: number;
  readonly purpose: Purpose;
  readonly attempt: number;
  /** An upload of this (round, purpose) has begun. */
  readonly uploaded: boolean;
}

interface Shared {
  readonly cohort: Cohort;
  readonly peers: PeerSecrets;
  readonly held: ReadonlyMap<number, HeldShares>;
}

/** Everything checked so far; a stage holds only the secrets that a later stage needs. */
export type Progress =
  | { readonly stage: 'authorizing'; readonly entropy: Uint8Array }
  | { readonly stage: 'advertised'; readonly secrets: SessionSecrets }
  /** Sparse profile: U1 is fixed, the graph is not drawn yet. */
  | { readonly stage: 'revealing'; readonly secrets: SessionSecrets; readonly cohort: Cohort }
  | ({ readonly stage: 'shared' } & Shared)
  | ({
      readonly stage: 'contributing';
      readonly dealers: Dealers;
      readonly components: readonly NoiseComponent[];
    } & Shared)
  | ({ readonly stage: 'charging'; readonly dealers: Dealers; readonly words: Uint32Array } & Shared)
  | ({
      readonly stage: 'masking';
      readonly dealers: Dealers;
      readonly words: Uint32Array;
      readonly seeds: readonly MaskSeed[];
    } & Omit<Shared, 'peers'>)
  | ({ readonly stage: 'uploaded'; readonly dealers: Dealers; readonly digest: Uint8Array } & Omit<Shared, 'peers'>)
  | ({ readonly stage: 'agreed'; readonly dealers: Dealers; readonly agreement: Agreement } & Omit<Shared, 'peers'>)
  | { readonly stage: 'replied'; readonly agreement: Agreement }
  | { readonly stage: 'closed' };

export type Stage = Progress['stage'];

/** One session as this participant lives it. */
export interface ParticipantSession {
  readonly params: SessionParams;
  readonly sid: Uint8Array;
  readonly census: readonly Uint8Array[] | null;
  readonly progress: Progress;
  /** First coordinator message of each type, without attachment; another one of that type is equivocation. */
  readonly received: ReadonlyMap<MessageType, SessionMessage>;
  /** Answer to each coordinator message: repeated as the same bytes. */
  readonly answers: ReadonlyMap<MessageType, SessionMessage>;
}

export interface ParticipantState {
  readonly identity: ParticipantIdentity;
  readonly trust: ParticipantTrust;
  /** By run identifier. */
  readonly positions: ReadonlyMap<string, RunPosition>;
  readonly session: ParticipantSession | null;
}

const sharesOf = (held: ReadonlyMap<number, HeldShares>): Uint8Array[] => [...held.values()].flatMap(secretsOfShares);

/** Everything secret that a stage still holds, to be wiped when it ends. */
export function secretsOf(progress: Progress): (Uint8Array | Uint32Array)[] {
  switch (progress.stage) {
    case 'authorizing':
      return [progress.entropy];
    case 'advertised':
    case 'revealing':
      return Object.values(progress.secrets);
    case 'shared':
    case 'contributing':
    case 'charging':
      return [
        ...peerSecretsOf(progress.peers),
        ...sharesOf(progress.held),
        ...(progress.stage === 'charging' ? [progress.words] : []),
        ...(progress.stage === 'contributing' ? progress.components.map(({ seed }) => seed) : []),
      ];
    case 'masking':
      return [progress.words, ...progress.seeds.map(({ seed }) => seed), ...sharesOf(progress.held)];
    case 'uploaded':
    case 'agreed':
      return sharesOf(progress.held);
    case 'replied':
    case 'closed':
      return [];
  }
}

export function peerSecretsOf(peers: PeerSecrets): Uint8Array[] {
  return [peers.selfSeed, peers.noiseRoot, ...peers.openingKeys.values(), ...peers.pairSecrets.values()];
}
