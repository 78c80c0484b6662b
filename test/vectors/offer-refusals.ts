import { concatBytes, decodeParts, encodeParts, f64le, toHex, u8, u32le, utf8 } from '../../protocol/bytes.ts';
import type { SessionMessage } from '../../protocol/session.ts';
import { bytes, SELF } from './lists.ts';
import {
  bytesOf,
  type Collector,
  flip,
  idOf,
  offer,
  offerParams,
  type Scene,
  STRANGER_SEED,
  say,
  signAs,
} from './scene.ts';

/* P0 that a member must refuse. */

export function refuseOffers(scene: Scene, { add, own }: Collector): void {
  const { world } = scene;
  const p0 = own('p0');
  const parts = decodeParts(p0.body);
  const isSparse = scene.session === 'sparse';
  const field = (at: number, value: Uint8Array): SessionMessage => offer(scene, p0, encodeParts(parts.with(at, value)));
  const wrong = (altered: string, at: number, value: Uint8Array): void =>
    add('field', altered, field(at, value), 'CODEC_TYPE');
  const most = isSparse ? 65_536 : 257;
  wrong(`minSurvivors ${most}`, 18, u32le(most));
  wrong('shareVariance negative', 17, concatBytes(u8(0), f64le(-1)));
  if (!isSparse) {
    wrong('runId of 15 bytes', 1, bytes(15));
    wrong('round of 5 bytes', 2, bytes(5));
    wrong('purpose 3', 3, u8(3));
    wrong('attempt 16', 4, u8(16));
    wrong('groupId of 65 characters', 5, utf8('g'.repeat(65)));
    wrong('groupId that is no UTF-8', 5, Uint8Array.of(0xc0, 0x80));
    wrong('mode 3', 6, u8(3));
    wrong('slots 0', 7, u32le(0));
    wrong('slots 1,025', 7, u32le(1_025));
    wrong('layout without a length', 8, encodeParts([utf8('body')]));
    wrong('layout of no coordinate', 8, encodeParts([utf8('body'), u32le(0)]));
    wrong('layout of 67,108,865 coordinates', 8, encodeParts([utf8('body'), u32le(67_108_865)]));
    for (const [name, at] of [
      ['modelHash', 9],
      ['taskHash', 10],
      ['rosterHash', 11],
      ['rotationSeed', 15],
    ] as const)
      wrong(`${name} of 31 bytes`, at, bytes(31));
    wrong('rosterVersion of 3 bytes', 12, bytes(3));
    wrong('ring lanes 5', 13, u8(5));
    wrong('clippingNorm not a number', 14, concatBytes(f64le(Number.NaN), f64le(1)));
    wrong('scale infinite', 14, concatBytes(f64le(1), f64le(Number.POSITIVE_INFINITY)));
    wrong('rounding 4', 16, u8(4));
    wrong('noise mechanism 3', 17, concatBytes(u8(3), f64le(0)));
    wrong('shareVariance without a mechanism', 17, concatBytes(u8(1), f64le(1)));
    wrong('minSurvivors 0', 18, u32le(0));
    wrong('minOrgs 0', 19, u32le(0));
    wrong('minOrgs above minSurvivors', 19, u32le(4));
    wrong('colluders as many as minSurvivors', 20, u32le(3));
    wrong('dropoutFraction above 1', 21, f64le(1.5));
    wrong('dropoutFraction negative', 21, f64le(-0.25));
    wrong('maxLoss of 8 bytes', 22, bytes(8));
    wrong('profile dense', 23, utf8('dense'));
    wrong('deadline 0', 24, u32le(0));
    wrong('deadline 3,600,001', 24, u32le(3_600_001));
  }
  add('version', 'protocol covey/2', field(0, utf8('covey/2')), 'PROTO_VERSION');
  add('list', '24 fields', offer(scene, p0, encodeParts(parts.slice(0, 24))), 'CODEC_TRUNCATED');
  add('list', 'last field cut', offer(scene, p0, p0.body.subarray(0, p0.body.length - 1)), 'CODEC_TRUNCATED');
  add('list end', '26 fields', offer(scene, p0, encodeParts([...parts, bytes(0)])), 'CODEC_TRAILING');
  const elsewhere: Scene = { ...scene, sid: flip(scene.sid) };
  add('sid', 'another sid over the same parameters', say(elsewhere, 'p0', p0.body, p0.attachment), 'PROTO_UNEXPECTED');
  add('coordinator signature', 'signed by a member', signAs(scene, 1, 'p0', p0.body, p0.attachment), 'AUTH_SIGNATURE');
  const entered = (round: number, attempt: number, uploaded = false) => ({
    local: { entered: { round, attempt, uploaded } },
  });
  add('newer', 'the session is the newest one entered', p0, 'PROTO_ROUND', entered(1, 0));
  add('newer', 'a later attempt was entered', p0, 'PROTO_ROUND', entered(1, 1));
  add('newer', 'a later round was entered', p0, 'PROTO_ROUND', entered(2, 0));
  add('spent', 'attempt 1 after an upload in attempt 0', field(4, u8(1)), 'PROTO_ROUND', entered(1, 0, true));
  add('pinned roster', 'another rosterHash', field(11, bytesOf('roster')), 'PRIVACY_POLICY');
  add('pinned roster', 'rosterVersion 2 over the hash of version 1', field(12, u32le(2)), 'PRIVACY_POLICY');
  add('enrolled', 'the node is not on the roster', p0, 'AUTH_UNKNOWN', { local: { secretSeed: toHex(STRANGER_SEED) } });
  const local = { revoked: [toHex(idOf(scene, SELF))] };
  add('revoked', 'the node is revoked', offerParams(scene, p0, {}, local), 'AUTH_REVOKED', { local });
  if (world.params.runId !== '000102030405060708090a0b0c0d0e0f') throw new Error('another run');
}
