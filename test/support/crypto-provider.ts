import { createCipheriv } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concatBytes, fromHex, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { codeOf } from './code-of.ts';
import { changedNoise, FROZEN_NOISE } from './noise-digests.ts';

const EMPTY = new Uint8Array(0);
const hex = (text: string): Uint8Array => fromHex(text.replaceAll(' ', ''));

function describeHashes(crypto: CryptoProvider): void {
  it.each([
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
    ],
  ])('SHA-256 of %j (FIPS 180-4)', (message, digest) => {
    expect(toHex(crypto.sha256(utf8(message)))).toBe(digest);
  });

  it.each([
    [
      'A.1',
      '0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b',
      '000102030405060708090a0b0c',
      'f0f1f2f3f4f5f6f7f8f9',
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    ],
    [
      'A.2',
      toHex(Uint8Array.from({ length: 80 }, (_, i) => i)),
      toHex(Uint8Array.from({ length: 80 }, (_, i) => 0x60 + i)),
      toHex(Uint8Array.from({ length: 80 }, (_, i) => 0xb0 + i)),
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09' +
        'da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
    ],
    [
      'A.3',
      '0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b',
      '',
      '',
      '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    ],
  ])('HKDF-SHA256 (RFC 5869, %s)', (_, key, salt, info, output) => {
    expect(toHex(crypto.hkdfSha256(hex(key), hex(salt), hex(info), output.length / 2))).toBe(output);
  });

  it.each([0, -1, 0.5, 8_161])('HKDF refuses a length of %d', (length) => {
    expect(codeOf(() => crypto.hkdfSha256(EMPTY, EMPTY, EMPTY, length))).toBe('USAGE_RANGE');
  });

  it('HKDF gives the longest output', () => {
    expect(crypto.hkdfSha256(EMPTY, EMPTY, EMPTY, 8_160).length).toBe(8_160);
  });
}

function describeEd25519(crypto: CryptoProvider): void {
  it.each([
    [
      'TEST 1',
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      'TEST 2',
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    ],
    [
      'TEST 3',
      'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
      'af82',
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
    ],
    [
      'TEST SHA(abc)',
      '833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42',
      'ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf',
      'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
      'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704',
    ],
  ])('Ed25519 (RFC 8032, %s)', (_, secret, publicKey, message, signature) => {
    expect(toHex(crypto.ed25519PublicKey(hex(secret)))).toBe(publicKey);
    expect(toHex(crypto.ed25519Sign(hex(message), hex(secret)))).toBe(signature);
    expect(crypto.ed25519Verify(hex(signature), hex(message), hex(publicKey))).toBe(true);
    expect(crypto.ed25519IsPrimeOrder(hex(publicKey))).toBe(true);
  });

  it('refuses a signature with any one bit flipped, and one over another message or key', () => {
    const seed = new Uint8Array(32).fill(7);
    const publicKey = crypto.ed25519PublicKey(seed);
    const message = utf8('round 3');
    const signature = crypto.ed25519Sign(message, seed);
    for (let bit = 0; bit < 512; bit += 5) {
      const changed = signature.slice();
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(crypto.ed25519Verify(changed, message, publicKey)).toBe(false);
    }
    expect(crypto.ed25519Verify(signature, utf8('round 4'), publicKey)).toBe(false);
    expect(crypto.ed25519Verify(signature, message, crypto.ed25519PublicKey(new Uint8Array(32).fill(8)))).toBe(false);
  });

  it('answers false, not an error, for malformed input', () => {
    const publicKey = crypto.ed25519PublicKey(new Uint8Array(32));
    const signature = crypto.ed25519Sign(EMPTY, new Uint8Array(32));
    expect(crypto.ed25519Verify(signature.subarray(1), EMPTY, publicKey)).toBe(false);
    expect(crypto.ed25519Verify(concatBytes(signature, Uint8Array.of(0)), EMPTY, publicKey)).toBe(false);
    expect(crypto.ed25519Verify(signature, EMPTY, publicKey.subarray(1))).toBe(false);
    expect(crypto.ed25519Verify(signature, EMPTY, new Uint8Array(32).fill(255))).toBe(false);
    expect(crypto.ed25519IsPrimeOrder(publicKey.subarray(1))).toBe(false);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (s, key) => {
          expect(crypto.ed25519Verify(s, EMPTY, key)).toBe(false);
        },
      ),
    );
  });

  it('refuses a secret seed of another length', () => {
    expect(codeOf(() => crypto.ed25519PublicKey(new Uint8Array(31)))).toBe('USAGE_RANGE');
    expect(codeOf(() => crypto.ed25519Sign(EMPTY, new Uint8Array(64)))).toBe('USAGE_RANGE');
  });
}

function describeX25519(crypto: CryptoProvider): void {
  const basePoint = Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 9 : 0));

  it('X25519 (RFC 7748, 5.2, first vector)', () => {
    const scalar = hex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4');
    const point = hex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c');
    const output = 'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552';
    expect(toHex(crypto.x25519Agree(scalar, point))).toBe(output);
  });

  it('X25519 (RFC 7748, 5.2, 1 and 1,000 iterations)', () => {
    let k: Uint8Array = basePoint;
    let u: Uint8Array = basePoint;
    for (let i = 1; i <= 1_000; i++) {
      [k, u] = [crypto.x25519Agree(k, u), k];
      if (i === 1) expect(toHex(k)).toBe('422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079');
    }
    expect(toHex(k)).toBe('684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51');
  });

  it('X25519 (RFC 7748, 6.1)', () => {
    const alice = hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
    const bob = hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb');
    const alicePublic = '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a';
    const bobPublic = 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f';
    const shared = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742';
    expect(toHex(crypto.x25519PublicKey(alice))).toBe(alicePublic);
    expect(toHex(crypto.x25519PublicKey(bob))).toBe(bobPublic);
    expect(toHex(crypto.x25519Agree(alice, hex(bobPublic)))).toBe(shared);
    expect(toHex(crypto.x25519Agree(bob, hex(alicePublic)))).toBe(shared);
  });

  it.each([
    ['0', '0000000000000000000000000000000000000000000000000000000000000000'],
    ['1', '0100000000000000000000000000000000000000000000000000000000000000'],
    ['order 8', 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'],
    ['order 8, the other', '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157'],
    ['p - 1', 'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
    ['p', 'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
    ['p + 1', 'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
    ['p + 9', 'f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
    ['2^255 - 1', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
    ['9 with bit 255', '0900000000000000000000000000000000000000000000000000000000000080'],
  ])('A19: refuses the u-coordinate %s', (_, point) => {
    expect(crypto.x25519IsPublicKey(hex(point))).toBe(false);
    expect(codeOf(() => crypto.x25519Agree(new Uint8Array(32).fill(77), hex(point)))).toBe('CRYPTO_POINT');
  });

  it('works with the bytes that a secret array holds now, not with those it held before', () => {
    const secret = new Uint8Array(32).fill(3);
    const before = [crypto.ed25519Sign(EMPTY, secret), crypto.x25519Agree(secret, basePoint)].map(toHex);
    secret.fill(4);
    const other = new Uint8Array(32).fill(4);
    const after = [crypto.ed25519Sign(EMPTY, secret), crypto.x25519Agree(secret, basePoint)].map(toHex);
    expect(after).toEqual([crypto.ed25519Sign(EMPTY, other), crypto.x25519Agree(other, basePoint)].map(toHex));
    expect(after).not.toEqual(before);
  });

  it('A19: refuses a point of another length, and a secret of another length', () => {
    expect(crypto.x25519IsPublicKey(basePoint)).toBe(true);
    expect(crypto.x25519IsPublicKey(basePoint.subarray(0, 31))).toBe(false);
    expect(codeOf(() => crypto.x25519Agree(new Uint8Array(32).fill(1), basePoint.subarray(0, 31)))).toBe(
      'CRYPTO_POINT',
    );
    expect(codeOf(() => crypto.x25519Agree(new Uint8Array(31), basePoint))).toBe('USAGE_RANGE');
    expect(codeOf(() => crypto.x25519PublicKey(new Uint8Array(33)))).toBe('USAGE_RANGE');
  });
}

function describeAes(crypto: CryptoProvider): void {
  const zeros = new Uint8Array(32);
  const cafe = {
    key: hex('feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308'),
    nonce: hex('cafebabefacedbaddecaf888'),
    plaintext: hex(
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255',
    ),
    ciphertext:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad',
    additional: hex('feedfacedeadbeeffeedfacedeadbeefabaddad2'),
  };

  it.each([
    ['13', zeros, new Uint8Array(12), EMPTY, EMPTY, '530f8afbc74536b9a963b4f1c4cb738b'],
    [
      '14',
      zeros,
      new Uint8Array(12),
      EMPTY,
      new Uint8Array(16),
      'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919',
    ],
    ['15', cafe.key, cafe.nonce, EMPTY, cafe.plaintext, `${cafe.ciphertext}b094dac5d93471bdec1a502270e3cc6c`],
    [
      '16',
      cafe.key,
      cafe.nonce,
      cafe.additional,
      cafe.plaintext.subarray(0, 60),
      `${cafe.ciphertext.slice(0, 120)}76fc6ece0f4e1768cddf8853bb2d551b`,
    ],
  ])('AES-256-GCM (McGrew and Viega, test case %s)', (_, key, nonce, additional, plaintext, sealed) => {
    expect(toHex(crypto.aes256GcmSeal(key, nonce, additional, plaintext))).toBe(sealed);
    expect(toHex(crypto.aes256GcmOpen(key, nonce, additional, hex(sealed)))).toBe(toHex(plaintext));
  });

  it('AES-256-GCM refuses a change of any byte, of the additional data, and a cut', () => {
    const sealed = crypto.aes256GcmSeal(cafe.key, cafe.nonce, cafe.additional, utf8('share'));
    for (let i = 0; i < sealed.length; i++) {
      const changed = sealed.slice();
      changed[i] = (changed[i] as number) ^ 0x40;
      expect(codeOf(() => crypto.aes256GcmOpen(cafe.key, cafe.nonce, cafe.additional, changed))).toBe('CRYPTO_TAG');
    }
    expect(codeOf(() => crypto.aes256GcmOpen(cafe.key, cafe.nonce, EMPTY, sealed))).toBe('CRYPTO_TAG');
    for (let length = 0; length < sealed.length; length++) {
      const cut = sealed.subarray(0, length);
      expect(codeOf(() => crypto.aes256GcmOpen(cafe.key, cafe.nonce, cafe.additional, cut))).toBe('CRYPTO_TAG');
    }
  });

  it('AES-256 takes keys of 32 bytes and nonces of 12 only', () => {
    for (const length of [0, 16, 24, 31, 33]) {
      const key = new Uint8Array(length);
      expect(codeOf(() => crypto.aes256GcmSeal(key, cafe.nonce, EMPTY, EMPTY))).toBe('USAGE_RANGE');
      expect(codeOf(() => crypto.aes256GcmOpen(key, cafe.nonce, EMPTY, new Uint8Array(16)))).toBe('USAGE_RANGE');
      expect(codeOf(() => crypto.aes256Ctr(key))).toBe('USAGE_RANGE');
    }
    expect(codeOf(() => crypto.aes256GcmSeal(zeros, new Uint8Array(16), EMPTY, EMPTY))).toBe('USAGE_RANGE');
    expect(codeOf(() => crypto.aes256GcmOpen(zeros, new Uint8Array(8), EMPTY, new Uint8Array(16)))).toBe('USAGE_RANGE');
  });

  it('A18: AES-256-CTR begins at counter 0 (blocks 0 to 2 of the zero key, as in GCM test cases 13 and 14)', () => {
    const stream = new Uint8Array(48);
    crypto.aes256Ctr(zeros).read(stream);
    expect(toHex(stream)).toBe(
      'dc95c078a2408989ad48a21492842087' + '530f8afbc74536b9a963b4f1c4cb738b' + 'cea7403d4d606b6e074ec5d3baf39d18',
    );
  });

  it('A18: AES-256-CTR is the block cipher over a 128-bit big-endian counter, across all carries of a vector', () => {
    const key = hex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4');
    const encrypt = (block: Uint8Array): string => {
      const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
      return toHex(cipher.update(block));
    };
    // SP 800-38A, F.5.5, pins the block cipher of the comparison.
    expect(encrypt(hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff'))).toBe('0bdf7df1591716335e9a8b15c860c502');
    expect(encrypt(hex('f0f1f2f3f4f5f6f7f8f9fafbfcfdff00'))).toBe('5a6e699d536119065433863c8f657b94');
    const stream = new Uint8Array(16 * 65_540);
    crypto.aes256Ctr(key).read(stream);
    for (const index of [0, 1, 255, 256, 4_095, 4_096, 8_191, 8_192, 65_535, 65_536, 65_539]) {
      const counter = new Uint8Array(16);
      new DataView(counter.buffer).setUint32(12, index);
      expect(toHex(stream.subarray(16 * index, 16 * index + 16))).toBe(encrypt(counter));
    }
  });

  it('A18: AES-256-CTR reads the same bytes in pieces of any length', () => {
    const key = new Uint8Array(32).fill(3);
    const whole = new Uint8Array(300_000);
    crypto.aes256Ctr(key).read(whole);
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 40_000 }), { maxLength: 7 }), (lengths) => {
        const stream = crypto.aes256Ctr(key);
        let at = 0;
        for (const length of [...lengths, 0, 1, 15, 16, 17]) {
          // Every bit is overwritten, whatever was there.
          const piece = new Uint8Array(length).fill(0xaa);
          stream.read(piece);
          expect(Buffer.compare(piece, whole.subarray(at, at + length))).toBe(0);
          at += length;
        }
      }),
      { numRuns: 15 },
    );
  });

  it('A18: the keystream is uniform by bytes and by neighbouring bits (chi-square, fixed key)', () => {
    const stream = new Uint8Array(1 << 18);
    crypto.aes256Ctr(new Uint8Array(32).fill(11)).read(stream);
    const counts = new Float64Array(256);
    for (const byte of stream) counts[byte] = (counts[byte] as number) + 1;
    const expected = stream.length / 256;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 255 degrees of freedom: within 5 standard deviations of the mean.
    expect(Math.abs(chiSquare - 255)).toBeLessThan(5 * Math.sqrt(510));
  });
}

/** What every CryptoProvider does, by the published vectors of its primitives and the rules of SPEC section 3. */
export function describeCryptoProvider(crypto: CryptoProvider): void {
  describe(`CryptoProvider ${crypto.name}`, () => {
    describeHashes(crypto);
    describeEd25519(crypto);
    describeX25519(crypto);
    describeAes(crypto);

    it('expands a 256-bit seed into the frozen noise of both laws', () => {
      expect(FROZEN_NOISE.length).toBe(16);
      expect(changedNoise(crypto)).toEqual([]);
    });

    it('does not change its inputs and gives results of their own memory', () => {
      const seed = Object.freeze(new Array(32).fill(9)) as readonly number[];
      const inputs = [
        Uint8Array.from(seed),
        Uint8Array.from(seed),
        Uint8Array.from(seed),
        Uint8Array.from(seed),
      ] as const;
      const [a, b, c, d] = inputs;
      const results = [
        crypto.sha256(a),
        crypto.hkdfSha256(a, b, c, 32),
        crypto.ed25519PublicKey(a),
        crypto.ed25519Sign(b, a),
        crypto.x25519PublicKey(a),
        crypto.x25519Agree(a, crypto.x25519PublicKey(b)),
        crypto.aes256GcmSeal(a, b.subarray(0, 12), c, d),
      ];
      for (const input of inputs) expect([...input]).toEqual(seed);
      for (const result of results) {
        expect(Object.getPrototypeOf(result)).toBe(Uint8Array.prototype);
        expect(result.byteLength).toBe(result.buffer.byteLength);
      }
    });
  });
}
