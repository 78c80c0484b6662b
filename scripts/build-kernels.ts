import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = 'protocol/kernels/lanes.as';
const TARGET = 'protocol/kernels/lanes-wasm.ts';
/** Pages of 64 KiB: the accumulator's chunk and those of the streams (lanes.ts). */
const PAGES = 17;

interface Compiler {
  main(
    args: readonly string[],
    host: {
      readFile(name: string): string | null;
      writeFile(name: string, contents: Uint8Array | string): void;
      listFiles(): string[];
    },
  ): Promise<{ readonly error: Error | null; readonly stderr: { toString(): string } }>;
}

/** Compiles the kernels and returns the module that holds them. @throws Error with what the compiler says. */
async function compileKernels(root: string): Promise<string> {
  // The specifier is computed: the compiler's own types need another configuration than ours.
  const { default: compiler } = (await import(['assemblyscript', 'asc'].join('/'))) as { default: Compiler };
  const source = readFileSync(join(root, SOURCE), 'utf8');
  const written: { wasm: Uint8Array | null } = { wasm: null };
  const { error, stderr } = await compiler.main(
    [
      ...['lanes.ts', '--outFile', 'lanes.wasm', '--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert'],
      ...['--enable', 'simd', '--runtime', 'stub', '--initialMemory', String(PAGES)],
    ],
    {
      readFile: (name) => (name === 'lanes.ts' ? source : null),
      writeFile: (name, contents) => {
        if (name === 'lanes.wasm' && typeof contents !== 'string') written.wasm = contents.slice();
      },
      listFiles: () => [],
    },
  );
  if (error !== null || written.wasm === null)
    throw new Error(`${error?.message ?? 'no module'}\n${stderr.toString()}`);
  const { wasm } = written;
  const lines =
    Buffer.from(wasm)
      .toString('base64')
      .match(/.{1,100}/g) ?? [];
  return `/** Compiled from lanes.as by \`npm run build:kernels\`; \`npm run verify\` compiles it again and compares. */
export const LANES_WASM_SHA256 = '${createHash('sha256').update(wasm).digest('hex')}';

/** The module, ${wasm.length} bytes in base64. */
export const LANES_WASM: string = [
${lines.map((line) => `  '${line}',`).join('\n')}
].join('');
`;
}

if (process.argv[1]?.endsWith('build-kernels.js') === true) {
  const compiled = await compileKernels('.');
  if (!process.argv.includes('--check')) writeFileSync(TARGET, compiled);
  else if (readFileSync(TARGET, 'utf8') !== compiled) {
    console.error(`${TARGET} expected what ${SOURCE} compiles to; run npm run build:kernels`);
    process.exitCode = 1;
  }
}
