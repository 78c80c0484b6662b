import type { Command } from 'commander';
import { nodeCrypto, nodeRandom } from '../platform/node/crypto.ts';
import { createKeyFile } from '../platform/node/key-file.ts';
import { toHex } from '../protocol/bytes.ts';

export function addKeygenCommand(program: Command): void {
  program
    .command('keygen')
    .description('Make a signing key for a node or a coordinator and print its public key')
    .argument('<file>', 'key file to create (mode 0600); never overwritten')
    .addHelpText('after', '\nExample:\n  covey keygen hospital-a.key')
    .action(async (file: string) => {
      const secretSeed = nodeRandom(32);
      await createKeyFile(file, secretSeed);
      console.log(toHex(nodeCrypto.ed25519PublicKey(secretSeed)));
    });
}
