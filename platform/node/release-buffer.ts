import { MessageChannel } from 'node:worker_threads';

/** `ArrayBuffer.prototype.transfer` of Node >= 22, which ES2023 does not name. */
type Transferable = ArrayBuffer & { transfer?(length: number): ArrayBuffer };

// Node 20: a buffer posted to a closed port is detached and freed. Until the event loop has closed the port, messages
// would queue up and keep their buffers, so buffers are left to the garbage collector for that first turn.
let isClosed = false;
const { port1, port2 } = new MessageChannel();
port1.once('close', () => {
  isClosed = true;
  keepMemory();
});
port1.unref();
port2.close();

/** Well above every temporary buffer, and never written to. */
const LARGEST_BYTES = 4_194_304;

/**
 * The allocator of glibc maps blocks of 128 KiB and more anew each time, or gives the end of its heap back as soon as that
 * much is free: every buffer then costs its page faults, several times the work done in it. Once a larger mapped block
 * was freed, it keeps blocks up to that size in its heap (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing.
 */
function keepMemory(): void {
  releaseBuffer(new ArrayBuffer(LARGEST_BYTES));
}

/**
 * Gives the memory of a large temporary buffer back at once instead of at the next garbage collection, which would let
 * hundreds of megabytes of keystream pile up and costs half as much again in page faults. The buffer is lost.
 */
export function releaseBuffer(buffer: ArrayBuffer): void {
  const { transfer } = buffer as Transferable;
  if (transfer !== undefined) transfer.call(buffer, 0);
  else if (isClosed) port1.postMessage(null, [buffer]);
}

const RELEASE_FROM_BYTES = 16_384;

/**
 * Gives back the memory of a view that fills its buffer but for `besideBytes`: what has been dealt with does not wait for
 * the garbage collector, which large buffers bring on. Short views, and those that share their memory, stay.
 */
export function releaseLargeView({ buffer, byteLength }: Uint8Array | Uint32Array, besideBytes: number): void {
  if (byteLength >= RELEASE_FROM_BYTES && buffer.byteLength <= byteLength + besideBytes)
    releaseBuffer(buffer as ArrayBuffer);
}

if ((ArrayBuffer.prototype as Transferable).transfer !== undefined) keepMemory();
