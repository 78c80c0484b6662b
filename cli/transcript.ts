import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { verifyTranscriptFile } from '../platform/node/transcript-file.ts';
import { toHex } from '../protocol/bytes.ts';
import { CoveyError, isCoveyError } from '../protocol/errors.ts';
import { wordsToBytes } from '../protocol/ring.ts';
import { federationFromJson } from '../src/run/roster.ts';

interface VerifyFlags {
  readonly federation: string;
  readonly json: boolean;
}

/** Exit code of a transcript that does not verify. */
const NOT_VERIFIED = 22;

async function verify(file: string, flags: VerifyFlags): Promise<void> {
  const text = await readFile(flags.federation, 'utf8').catch((cause: unknown) => {
    throw new CoveyError('USAGE_CONFIG', `"--federation" expected a file, got ${flags.federation}`, {}, { cause });
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CoveyError('USAGE_CONFIG', `"--federation" expected JSON in ${flags.federation}`, {}, { cause });
  }
  const { roster, coordinatorKey } = federationFromJson(nodeCrypto, json);
  try {
    const report = await verifyTranscriptFile(file, nodeCrypto, roster, coordinatorKey);
    const { params, u1, u2, survivors, quorum, signatures, fileBytes } = report;
    const sumHash = toHex(nodeCrypto.sha256(wordsToBytes(report.sum)));
    const facts = {
      session: toHex(report.sid),
      run: params.runId,
      round: params.round,
      purpose: params.purpose,
      u1,
      u2,
      survivors: survivors.length,
      threshold: quorum,
      signatures,
      sumHash,
      fileBytes,
    };
    if (flags.json) {
      console.log(JSON.stringify({ verified: true, ...facts }));
      return;
    }
    console.log(
      [
        `verified: round ${facts.round} (${facts.purpose}) of run ${facts.run}, session ${facts.session.slice(0, 16)}`,
        `  members      ${u1} advertised, ${u2} dealt shares, ${facts.survivors} survived; threshold ${quorum}, ${signatures} signatures`,
        `  recomputed   the sum of ${facts.survivors} masked vectors without the masks of the revealed seeds`,
        `  checked      every signature, digest, set, commitment and the coordinator's signed result`,
        `  sum          SHA-256 ${sumHash}`,
      ].join('\n'),
    );
  } catch (error) {
    if (!isCoveyError(error) || error.code.startsWith('USAGE_')) throw error;
    if (flags.json) console.log(JSON.stringify({ verified: false, code: error.code, message: error.message }));
    else console.error(`covey: not verified: ${error.message} [${error.code}]`);
    process.exitCode = NOT_VERIFIED;
  }
}

export function addTranscriptCommand(program: Command): void {
  program
    .command('transcript')
    .description('Check what one session released')
    .command('verify')
    .description('Recompute the released sum from masked vectors and revealed seeds, offline')
    .argument('<file>', 'transcript that a coordinator kept (transcripts: true)')
    .requiredOption('--federation <file>', 'federation file: coordinator key and roster, known from elsewhere')
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      `\nExit codes: 0 every check held, 2 wrong usage, ${NOT_VERIFIED} the transcript does not verify`,
    )
    .action(verify);
}
