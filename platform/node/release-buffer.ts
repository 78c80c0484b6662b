import { MessageChannel } from 'node:worker_threads';

/** `ArrayBuffer.prototype.transfer` of Node >= 22, which ES2023 does not name. */
type Transferable = ArrayBuffer & { transfer?(length: number): ArrayBuffer };

// Node 20: a buffer posted to a closed port is detached and freed. Until the event loop has closed the port, messages
// would queue up and keep their buffers, so buffers are left to the garbage collector for that first turn.
let isClosed = false;
const { port1, port2 } = new MessageChannel();
port1.once('close', () => {
  isClosed = true;
});
port1.unref();
port2.close();

/**
 * Gives the memory of a large temporary buffer back at once instead of at the next garbage collection, which would let
 * hundreds of megabytes of keystream pile up and costs half as much again in page faults. The buffer is lost.
 */
export function releaseBuffer(buffer: ArrayBuffer): void {
  const { transfer } = buffer as Transferable;
  if (transfer !== undefined) transfer.call(buffer, 0);
  else if (isClosed) port1.postMessage(null, [buffer]);
}
