import { once } from 'node:events';
import { Packr } from 'msgpackr';
import { WebSocket } from 'ws';
import { startParticipant } from '../clients/core/session.ts';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { connectSocketClient } from '../platform/transport/socket-client.ts';
import { decodeSessionMessage, encodeSessionMessage } from '../protocol/frame.ts';
import { LIMITS } from '../protocol/limits.ts';
import { packLanes } from '../protocol/ring.ts';
import { benchIdentities } from './session.ts';

/* The participants of bench/sockets.ts, in a process of their own so that only the coordinator's CPU time is counted. */

const [mode = '', url = '', membersText = '', coordinatesText = ''] = process.argv.slice(2);
const [members, coordinates] = [Number(membersText), Number(coordinatesText)];

const told = once(process, 'message');
process.send?.('ready');
await told;
process.disconnect();

if (mode === 'echo') {
  const packr = new Packr();
  const message = packr.pack({ t: 'p3', payload: new Uint8Array(8 * Math.ceil(coordinates / 3)) });
  await Promise.all(
    Array.from({ length: members }, async () => {
      const socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 2 ** 28 });
      await new Promise((resolve) => socket.once('open', resolve));
      socket.send(message);
      await new Promise((resolve) => socket.once('message', resolve));
      socket.close();
    }),
  );
} else {
  const { nodes, roster, coordinator } = benchIdentities(members);
  const limit = { maxHeaderBytes: LIMITS.headerBytes, maxPayloadBytes: LIMITS.payloadBytes };
  await Promise.all(
    nodes.map(async (identity) => {
      let finish: () => void = () => undefined;
      const finished = new Promise<void>((resolve) => {
        finish = resolve;
      });
      const fail = (error: unknown): void => {
        console.error(error);
        process.exit(1);
      };
      const sessions = startParticipant(
        nodeCrypto,
        nodeRandom,
        identity,
        { coordinatorKey: coordinator.publicKey, roster },
        {
          authorize: async () => null,
          persist: async () => undefined,
          send: (message) => client.send(encodeSessionMessage(message)),
          contribute: async () => packLanes(new Int32Array(coordinates).fill(1), 3),
          charge: async () => undefined,
          settle: async () => undefined,
          done: async () => finish(),
          aborted: async (effect) => fail(effect.reason),
        },
        fail,
      );
      const client = connectSocketClient({
        url,
        identity,
        coordinatorKey: coordinator.publicKey,
        crypto: nodeCrypto,
        random: nodeRandom,
        onMessage: (bytes) => sessions.receive(decodeSessionMessage(bytes, limit)),
        onOpen: () => undefined,
        onClose: () => undefined,
        onError: fail,
      });
      await finished;
      await client.close();
    }),
  );
}
