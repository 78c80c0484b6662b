import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUILT_COMMAND } from './support/built-command.ts';

/* Every number of docs/privacy.md comes from a command beside it: the commands are run and their output compared. */

const page = readFileSync(join(import.meta.dirname, '..', 'docs', 'privacy.md'), 'utf8');
const examples = [...page.matchAll(/```sh\ncovey ([^\n]*)\n```\n+```text\n([\s\S]*?)```/g)].map(
  ([, line = '', output = '']) => ({
    line,
    output,
  }),
);

describe('docs/privacy.md', () => {
  it('shows an example for each view', () => {
    expect(examples.length).toBeGreaterThanOrEqual(2);
  });

  it.each(examples)('covey $line prints what the page shows', ({ line, output }) => {
    const printed = execFileSync(process.execPath, [BUILT_COMMAND, ...line.split(' ')], { encoding: 'utf8' });
    const shown = output.trimEnd().split('\n');
    expect(
      printed
        .split('\n')
        .slice(0, shown.length)
        .map((text) => text.trimEnd()),
    ).toEqual(shown);
  });
});
