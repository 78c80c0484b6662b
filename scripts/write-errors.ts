import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorTable } from './checks/documents.ts';
import { ROOT } from './checks/run.ts';

/** Writes `docs/errors.md` from the registry in `protocol/errors.ts`. */
const page = `# Errors
Every error is a \`CoveyError\` with a code of this table. Codes travel between the parties and never change their meaning;
\`close code\` is what a peer sees when its WebSocket is closed for that reason. The table is written from
[protocol/errors.ts](../protocol/errors.ts) by \`npm run docs:errors\`, and \`npm run verify\` compares the two.

${errorTable()}

## Exit codes of \`covey\`
| code | when |
|---|---|
| 0 | success |
| 1 | an unexpected fault (InternalError): please report it |
| 2 | wrong usage or configuration (UsageError) |
| 3 | the privacy policy or budget refused (PrivacyError) |
| 4 | the run could not go on (any other class) |
| 5 | a dependency is missing (DependencyError) |
| 10-21 | a check of \`covey audit verify\` failed |
`;

mkdirSync(join(ROOT, 'docs'), { recursive: true });
writeFileSync(join(ROOT, 'docs', 'errors.md'), page);
