import { compareBytes, fromHex, toHex } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { nodeId } from '../../protocol/params.ts';
import type { Roster } from '../../protocol/session.ts';

/** What every party of a federation is given out of band: who takes part and whose signature opens a session. */
export interface FederationFile {
  readonly coordinatorKey: Uint8Array;
  readonly roster: Roster;
}

/**
 * Builds a roster from organizations and their public keys; ids are hashes of the keys, sorted bytewise.
 * @throws CoveyError USAGE_CONFIG for a repeated or malformed key.
 */
export function buildRoster(
  crypto: CryptoProvider,
  version: number,
  members: readonly { readonly organization: string; readonly publicKey: Uint8Array }[],
  revokedKeys: readonly Uint8Array[] = [],
): Roster {
  const entries = members
    .map(({ organization, publicKey }) => {
      if (!crypto.ed25519IsPrimeOrder(publicKey)) {
        throw new CoveyError(
          'USAGE_CONFIG',
          `"publicKey" of ${organization} expected a canonical Ed25519 key of prime order`,
        );
      }
      return { id: nodeId(crypto, publicKey), publicKey, organization };
    })
    .sort((a, b) => compareBytes(a.id, b.id));
  const repeated = entries.find((entry, i) => i > 0 && compareBytes(entries[i - 1]?.id ?? entry.id, entry.id) === 0);
  if (repeated !== undefined)
    throw new CoveyError('USAGE_CONFIG', `"publicKey" of ${repeated.organization} stands twice in the roster`);
  return { version, entries, revoked: revokedKeys.map((key) => nodeId(crypto, key)).sort(compareBytes) };
}

/** Plain JSON form of a federation file, without ids (they follow from the keys). */
export function federationToJson(file: FederationFile): Record<string, unknown> {
  const publicKeyOf = (id: Uint8Array): string => {
    const entry = file.roster.entries.find((e) => compareBytes(e.id, id) === 0);
    return toHex(entry?.publicKey ?? id);
  };
  return {
    version: file.roster.version,
    coordinatorKey: toHex(file.coordinatorKey),
    members: file.roster.entries.map(({ organization, publicKey }) => ({ organization, publicKey: toHex(publicKey) })),
    revoked: file.roster.revoked.map(publicKeyOf),
  };
}

function keyField(value: unknown, field: string): Uint8Array {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) {
    throw new CoveyError('USAGE_CONFIG', `"${field}" expected 64 lower-case hex digits`);
  }
  return fromHex(value);
}

/** @throws CoveyError USAGE_CONFIG with one line that names the field. */
export function federationFromJson(crypto: CryptoProvider, value: unknown): FederationFile {
  const file = value as { version?: unknown; coordinatorKey?: unknown; members?: unknown; revoked?: unknown } | null;
  if (file === null || typeof file !== 'object' || !Array.isArray(file.members)) {
    throw new CoveyError('USAGE_CONFIG', '"federation" expected {version, coordinatorKey, members, revoked}');
  }
  const { version } = file;
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1) {
    throw new CoveyError('USAGE_CONFIG', `"version" expected integer >= 1, got ${String(version)}`);
  }
  const members = (file.members as unknown[]).map((member, i) => {
    const entry = member as { organization?: unknown; publicKey?: unknown } | null;
    const organization = entry?.organization;
    if (typeof organization !== 'string' || organization === '') {
      throw new CoveyError('USAGE_CONFIG', `"members[${i}].organization" expected a name`);
    }
    return { organization, publicKey: keyField(entry?.publicKey, `members[${i}].publicKey`) };
  });
  const revoked = Array.isArray(file.revoked) ? file.revoked.map((key, i) => keyField(key, `revoked[${i}]`)) : [];
  return {
    coordinatorKey: keyField(file.coordinatorKey, 'coordinatorKey'),
    roster: buildRoster(crypto, version, members, revoked),
  };
}
