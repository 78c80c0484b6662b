import type { Command } from 'commander';
import { writeFileAtomic } from '../platform/node/atomic-file.ts';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { fromHex, toHex } from '../protocol/bytes.ts';
import { CoveyError } from '../protocol/errors.ts';
import { rosterHash } from '../protocol/params.ts';
import { buildRoster, federationToJson } from '../src/run/roster.ts';

function publicKey(text: string, owner: string): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"${owner}" expected a public key of 64 hex digits (covey keygen prints it), got "${text.slice(0, 20)}"`,
    );
  }
  return fromHex(text);
}

export function addRosterCommand(program: Command): void {
  program
    .command('roster')
    .description('Write the federation file: the coordinator key and the key of every participant')
    .argument('<file>', 'federation file to write')
    .requiredOption('--coordinator <key>', 'public key of the coordinator')
    .requiredOption('--member <name=key...>', 'organization and public key of each participant')
    .addHelpText(
      'after',
      '\nExample:\n  covey roster federation.json --coordinator 3b6a... --member hospital-a=d75a... hospital-b=fc51...',
    )
    .action(async (file: string, options: { coordinator: string; member: string[] }) => {
      const members = options.member.map((text) => {
        const [organization = '', key = ''] = text.split('=');
        return { organization, publicKey: publicKey(key, organization) };
      });
      const roster = buildRoster(nodeCrypto, 1, members);
      const json = federationToJson({ coordinatorKey: publicKey(options.coordinator, 'coordinator'), roster });
      await writeFileAtomic(file, `${JSON.stringify(json, null, 2)}\n`);
      console.log(`${roster.entries.length} members, roster hash ${toHex(rosterHash(nodeCrypto, roster))}`);
    });
}
