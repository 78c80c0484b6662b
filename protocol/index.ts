export * from './aggregator.ts';
export * from './bytes.ts';
export type * from './crypto-provider.ts';
export * from './errors.ts';
export * from './ideal.ts';
export * from './labels.ts';
export * from './limits.ts';
export * from './params.ts';
export {
  createParticipant,
  type ParticipantIdentity,
  type ParticipantState,
  type ParticipantTrust,
  stepParticipant,
} from './participant.ts';
export * from './ring.ts';
export type * from './session.ts';
export * from './transcript.ts';
