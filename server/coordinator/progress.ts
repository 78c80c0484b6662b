import type { Phase } from '../../protocol/session.ts';
import type { HistogramSummary } from '../../src/learning/accuracy-histogram.ts';
import type { MemberEpsilons } from './accounts.ts';

/** What an operator sees while a run goes on; public facts only. */
export type RunProgress =
  | { readonly event: 'waiting'; readonly connected: number; readonly needed: number }
  | {
      readonly event: 'phase';
      readonly round: number;
      readonly kind: string;
      readonly step: number;
      readonly phase: Phase;
      readonly members: number;
    }
  | {
      readonly event: 'release';
      readonly round: number;
      readonly kind: string;
      readonly step: number;
      readonly steps: number;
      readonly survivors: number;
      readonly dropped: number;
      readonly epsilonServer: number;
      readonly epsilonRelease: number;
      readonly targetEpsilon: number;
      /** Norm of what the released sum says over the norm of its noise; null for a sum without noise. */
      readonly signalToNoise: number | null;
      readonly counts: readonly number[] | null;
      /** Accuracies over the members after the step, once all groups have released them. */
      readonly metrics: HistogramSummary | null;
      /** Bytes that one member has uploaded so far. */
      readonly uploadBytesTotal: number;
    }
  | {
      readonly event: 'abort';
      readonly round: number;
      readonly phase: string;
      readonly code: string;
      readonly reason: string;
    }
  /** The run ends: too few members can pay for the next session. */
  | {
      readonly event: 'budget';
      readonly epsilon: number;
      readonly targetEpsilon: number;
      readonly remaining: number;
      readonly needed: number;
    }
  /** A member's budget does not allow this session: it pays for no further one. */
  | {
      readonly event: 'left';
      readonly organization: string;
      readonly kind: string;
      readonly step: number;
      readonly code: string;
      readonly reason: string;
    }
  | { readonly event: 'lost' | 'joined'; readonly organization: string }
  | {
      readonly event: 'finished';
      readonly steps: number;
      readonly epsilons: Readonly<Record<string, MemberEpsilons>>;
    };
