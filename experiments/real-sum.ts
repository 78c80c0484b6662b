import { nodeCrypto } from '../platform/node/crypto.ts';
import { createAggregator, stepAggregator } from '../protocol/aggregator.ts';
import { equalBytes, hashParts, toHex, u32le, utf8 } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import type { SecureSum } from '../protocol/ideal.ts';
import { coordinateCount } from '../protocol/params.ts';
import { createParticipant, type ParticipantState, stepParticipant } from '../protocol/participant.ts';
import { addWords, applyMasks, ringWordCount, wordsToBytes } from '../protocol/ring.ts';
import type { AggregatorEvent, ParticipantEvent, SessionOutcome } from '../protocol/session.ts';
import { simulatedRoster } from './in-process.ts';

const crypto = nodeCrypto;

/** `SecureSum` by the real machines, for members of `simulatedRoster(members)`: masks, shares, signatures and all. */
export function realSum(members: number): SecureSum {
  const { roster, ids, seeds } = simulatedRoster(crypto, members);
  const secretSeed = hashParts(crypto, utf8('coordinator of a simulation'));
  const coordinator = { secretSeed, publicKey: crypto.ed25519PublicKey(secretSeed) };
  return (params, contributions) => {
    const invited = ids.filter((id) => contributions.has(toHex(id)));
    const states = new Map<string, ParticipantState>();
    invited.forEach((id) => {
      const seed = seeds[ids.indexOf(id)] as Uint8Array;
      const identity = { id, secretSeed: seed, publicKey: crypto.ed25519PublicKey(seed) };
      states.set(toHex(id), createParticipant(identity, { coordinatorKey: coordinator.publicKey, roster }, crypto));
    });
    let aggregator = createAggregator(coordinator, roster);
    const { lanes } = params.ring;
    const sum = new Uint32Array(ringWordCount(coordinateCount(params), lanes));
    let outcome: SessionOutcome | null = null;
    const queue: (() => void)[] = [];
    const toServer = (event: AggregatorEvent): void => {
      const step = stepAggregator(crypto, aggregator, event);
      aggregator = step.state;
      for (const effect of step.effects) {
        if (effect.type === 'send') {
          const { to, message } = effect;
          const entropy = hashParts(crypto, utf8('entropy of a simulation'), to, message.sid, u32le(params.round));
          queue.push(() =>
            toMember(to, message.type === 'p0' ? { type: 'open', message, entropy } : { type: 'message', message }),
          );
        } else if (effect.type === 'fold') {
          addWords(sum, effect.words, lanes);
          toServer({ type: 'folded', id: effect.id });
        } else if (effect.type === 'charge') toServer({ type: 'charged' });
        else if (effect.type === 'unmask') {
          applyMasks(sum, lanes, effect.seeds, crypto);
          toServer({ type: 'unmasked', sum });
        } else if (effect.type === 'done') outcome = effect.outcome;
      }
    };
    const toMember = (id: Uint8Array, event: ParticipantEvent): void => {
      const key = toHex(id);
      const step = stepParticipant(crypto, states.get(key) as ParticipantState, event);
      states.set(key, step.state);
      for (const effect of step.effects) {
        if (effect.type === 'authorize') toMember(id, { type: 'authorized', census: null });
        else if (effect.type === 'contribute')
          toMember(id, { type: 'contribution', words: (contributions.get(key) as Uint32Array).slice() });
        else if (effect.type === 'charge') toMember(id, { type: 'charged' });
        else if (effect.type === 'mask') {
          const words = effect.words.slice();
          applyMasks(words, lanes, effect.seeds, crypto);
          toMember(id, { type: 'masked', words, digest: crypto.sha256(wordsToBytes(words)) });
        } else if (effect.type === 'send') {
          const { message } = effect;
          queue.push(() => toServer({ type: 'message', from: id, message }));
        }
      }
    };
    toServer({ type: 'open', params, attachment: utf8('models'), invited });
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) next();
    const done = outcome as SessionOutcome | null;
    if (done === null) throw new CoveyError('ROUND_BELOW_THRESHOLD', 'the session did not finish');
    return { sum: done.sum, survivors: done.survivors.filter((id) => invited.some((other) => equalBytes(id, other))) };
  };
}
