/**
 * The primitives of `covey/1`, synchronous, with one meaning on every platform.
 * Implementations: `platform/node/crypto.ts` (OpenSSL) and `platform/noble/crypto.ts` (portable, the oracle).
 * Every implementation passes `describeCryptoProvider`. @see SPEC section 3
 */
export interface CryptoProvider {
  readonly name: string;
  sha256(data: Uint8Array): Uint8Array;
  /** HKDF-SHA256 (RFC 5869), extract and expand. Units: `length` in bytes, at most 8,160. */
  hkdfSha256(inputKey: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** Public key (32 bytes) of a 32-byte Ed25519 secret seed. */
  ed25519PublicKey(secretSeed: Uint8Array): Uint8Array;
  ed25519Sign(message: Uint8Array, secretSeed: Uint8Array): Uint8Array;
  /**
   * Verifies by the one rule of SPEC section 3: S < L, A and R canonical, encode(S*B - k*A) = R (cofactorless).
   * Returns false for every malformed input, never throws.
   */
  ed25519Verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean;
  /** True for a canonical key of prime order (enrolment check). */
  ed25519IsPrimeOrder(publicKey: Uint8Array): boolean;
  x25519PublicKey(secretKey: Uint8Array): Uint8Array;
  /** True for what `x25519Agree` takes, for any secret: 32 bytes, canonical, not of low order. */
  x25519IsPublicKey(publicKey: Uint8Array): boolean;
  /** @throws CoveyError CRYPTO_POINT for a non-canonical, low-order or all-zero result. */
  x25519Agree(secretKey: Uint8Array, publicKey: Uint8Array): Uint8Array;
  /** AES-256-GCM, 12-byte nonce; returns ciphertext followed by the 16-byte tag. */
  aes256GcmSeal(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /** @throws CoveyError CRYPTO_TAG if the tag does not match. */
  aes256GcmOpen(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, sealed: Uint8Array): Uint8Array;
  /** Keystream of AES-256-CTR with a 128-bit big-endian counter that starts at 0. */
  aes256Ctr(key: Uint8Array): KeyStream;
}

/** A deterministic stream of keystream bytes; the state moves forward with every read. */
export interface KeyStream {
  /** Overwrites `target` with the next bytes of the stream. */
  read(target: Uint8Array): void;
}

/** Fresh random bytes of the platform's CSPRNG; injected by drivers, never ambient. */
export type RandomSource = (length: number) => Uint8Array;
