import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface KernelSource {
  readonly folder: string;
  readonly name: string;
  /** Pages of 64 KiB that the module's memory starts with; who calls it lays them out (`<name>.ts`). */
  readonly pages: number;
}

const SOURCES: readonly KernelSource[] = [
  { folder: 'protocol/kernels', name: 'lanes', pages: 17 },
  { folder: 'protocol/kernels', name: 'hadamard', pages: 1 },
  { folder: 'protocol/kernels', name: 'shamir', pages: 2 },
  { folder: 'protocol/kernels', name: 'sampler', pages: 3 },
  { folder: 'src/learning/kernels', name: 'matrix', pages: 1 },
];

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
async function compileKernels({ folder, name, pages }: KernelSource): Promise<string> {
  // The specifier is computed: the compiler's own types need another configuration than ours.
  const { default: compiler } = (await import(['assemblyscript', 'asc'].join('/'))) as { default: Compiler };
  const source = readFileSync(join(folder, `${name}.as`), 'utf8');
  const written: { wasm: Uint8Array | null } = { wasm: null };
  const { error, stderr } = await compiler.main(
    [
      ...[`${name}.ts`, '--outFile', `${name}.wasm`, '--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert'],
      ...['--enable', 'simd', '--runtime', 'stub', '--initialMemory', String(pages)],
    ],
    {
      readFile: (file) => (file === `${name}.ts` ? source : null),
      writeFile: (file, contents) => {
        if (file === `${name}.wasm` && typeof contents !== 'string') written.wasm = contents.slice();
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
  return `/** Compiled from ${name}.as by \`npm run build:kernels\`; \`npm run verify\` compiles it again and compares. */
export const ${name.toUpperCase()}_WASM_SHA256 = '${createHash('sha256').update(wasm).digest('hex')}';

/** The module, ${wasm.length} bytes in base64. */
export const ${name.toUpperCase()}_WASM: string = [
${lines.map((line) => `  '${line}',`).join('\n')}
].join('');
`;
}

if (process.argv[1]?.endsWith('build-kernels.js') === true) {
  for (const source of SOURCES) {
    const target = join(source.folder, `${source.name}-wasm.ts`);
    const compiled = await compileKernels(source);
    if (!process.argv.includes('--check')) writeFileSync(target, compiled);
    else if (readFileSync(target, 'utf8') !== compiled) {
      console.error(`${target} expected what ${source.name}.as compiles to; run npm run build:kernels`);
      process.exitCode = 1;
    }
  }
}
