interface WebAssemblyGlobal {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Record<string, unknown> };
}

function decodeBase64(text: string): Uint8Array {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  const digits = text.replace(/=+$/, '');
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4));
  let [bits, held, at] = [0, 0, 0];
  for (const digit of digits) {
    bits = ((bits << 6) | alphabet.indexOf(digit)) & 0xff_ffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes[at++] = (bits >> held) & 0xff;
  }
  return bytes;
}

/** Unit in which the memory of a module grows. */
export const PAGE_BYTES = 65_536;

/** Functions of a kernel module and its memory. */
export interface KernelModule<Functions> {
  readonly functions: Functions;
  /** Another buffer after `grow`; the one before is detached. */
  readonly memory: ArrayBuffer;
  /** Grows the memory by whole pages; false if the engine has no more. */
  grow(pages: number): boolean;
}

/** Compiles a kernel module; null where the engine has no WebAssembly with SIMD and the plain twins do the same work. */
export function instantiateKernels<Functions>(base64: string): KernelModule<Functions> | null {
  const { WebAssembly: engine } = globalThis as { WebAssembly?: WebAssemblyGlobal };
  if (engine === undefined) return null;
  try {
    const { exports } = new engine.Instance(new engine.Module(decodeBase64(base64)));
    const memory = exports['memory'] as { readonly buffer: ArrayBuffer; grow(pages: number): number };
    return {
      functions: exports as Functions,
      get memory() {
        return memory.buffer;
      },
      grow(pages) {
        try {
          memory.grow(pages);
          return true;
        } catch {
          return false;
        }
      },
    };
  } catch {
    return null;
  }
}
