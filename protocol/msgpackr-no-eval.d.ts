declare module 'msgpackr/index-no-eval' {
  export class Packr {
    constructor(options?: Record<string, unknown>);
    pack(value: unknown): Uint8Array;
    unpack(bytes: Uint8Array): unknown;
  }
}
