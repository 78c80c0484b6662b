import { type Check, runPackage, runProgram } from './run.ts';

/** What the compiler, the linter (format, layers, import cycles) and the search for dead code say. */
export const toolChecks: readonly Check[] = [
  { name: 'types', run: () => runPackage('typescript/bin/tsc', ['-b']) },
  {
    name: 'lint, format, layers, cycles',
    run: () =>
      runPackage('@biomejs/biome/bin/biome', [
        'ci',
        '--colors=off',
        '--error-on-warnings',
        '--max-diagnostics=50',
        '.',
      ]),
  },
  {
    name: 'kernels are what their source compiles to',
    run: () => runProgram(process.execPath, ['dist/scripts/build-kernels.js', '--check']),
  },
  {
    name: 'unused files, exports, dependencies',
    run: () => runPackage('knip/bin/knip.js', ['--no-progress', '--treat-config-hints-as-errors']),
  },
];
