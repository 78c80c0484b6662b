import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALGORITHMS_PAGE, algorithmTable, combinationTable } from './checks/algorithms.ts';
import { ROOT } from './checks/run.ts';

/** Writes the page of the algorithms from their registry. */
const page = `# Algorithms
What a participant computes, what it keeps and what a sum means is an algorithm; slots, the server's momentum, the unit of
privacy and fine-tuning at the end are the run's, and go with every algorithm that does not refuse them. A run names one in its
configuration; in \`covey.yaml\` an embedded scenario takes it too, with the slots that it asks for:

\`\`\`yaml
run: { scenario: digits, unit: participant, algorithm: { id: ditto, options: { lambda: 0.1 } } }
\`\`\`

Without a name a run is FedAvg: local epochs under one clip at unit \`participant\`, one clipped gradient of every sampled record
at unit \`record\`. Which algorithms may run at unit \`record\` with shared noise is decided by the record rule: a term of the sum
may depend on one record, public values and released values only. The planner refuses the others with the reason in the table.

With noise inside the organizations (\`privacy.localNoise\`, \`--noise local\` of an experiment) most of those run at unit \`record\`
too: whatever an algorithm learns of the records are gradients, each over a sample of its own and under noise of its own, and the
charge is the number of gradients that it asks for: one a minibatch, FedRep one more for the head, Per-FedAvg two (with the
Hessian four). Everything it makes of them is post-processing. MetaVers, FedRoD and q-FedAvg read features, labels or losses
beside gradients and are refused there, as are curricula and slots that are filled by losses.

C is the clipping norm: everything that a participant sends in a step is clipped once, jointly. Replacing a participant moves a
sum by twice what taking it away does.

At unit \`record\` an algorithm whose gradients read label counts (\`fedrod\`) names their source, or is refused:

\`\`\`yaml
algorithm: { id: fedrod, labels: { noiseStddev: 10 } }                 # summed over the cohort before the first step, charged
algorithm: { id: fedrod, labels: { prior: [60, 55, 52, 70, 48, 50, 61, 58, 49, 57] } } # public, costs nothing
\`\`\`

The sum is a session of its own (\`labels\`): one record moves one count by one, \`noiseStddev\` is the deviation of the noise in
each class, in records, with the fewest accepted honest shares. The released counts travel with every later model, every
organization uses the same ones, and the audit derives the charge anew from the signed session.

**Curriculum.** At unit \`participant\` records are ranked by loss (\`training.local.curriculum\`: \`expert\` global, local or hybrid,
\`pacing\`, \`order\`, \`startShare\`, \`fullAt\`); all of it stays inside one clipped update. At unit \`record\` a rank, a quantile or
an expert of own records would tie a record's term to the others and is refused; there a record joins a step by its own loss
under the released model against a threshold that the schedule alone moves from \`from\` to \`to\`, all records after \`fullAt\` of the
steps: \`training: { lossThreshold: { order: easy, pacing: linear, from: 0.5, to: 3, fullAt: 0.6 } }\`. \`order: random\` is the control: the
numbers are then shares of the records. Nothing is charged for it: a term left out is a term of zero.

\`covey experiment list\` prints scenarios and algorithms, \`covey experiment run <scenario> --algorithm <ids>\` compares them, with
the encoding, noise, ledger and decoding of a deployment. \`layer-sharing@2\` is a row with the two lowest layers as the body;
\`--hidden 48,32,24 --cuts\` makes a row for every cut of such a model (local and fedavg are its ends).

${algorithmTable()}

## What composes
Every algorithm with every way to fill slots (none; chosen; chosen after a founding; several; by weights; declared in the open) at
either unit of privacy, with noise shared under secure aggregation. A personal part at the end (\`personal.method\`) goes with every
one that runs: it never leaves the site. Each cell that says "runs" is run by \`test/long/combinations.test.ts\`, bit for bit the same
through the real protocol and the ideal aggregator; each other one is refused by \`parseRunConfig\` with the reason below it.

${combinationTable()}

To add an algorithm: one file in \`src/learning/algorithms\`, one line in \`src/learning/registry.ts\`, and this page by
\`npm run docs:algorithms\`; \`npm run verify\` compares the two. The tests of \`test/algorithms.test.ts\` then run it through the
real protocol, measure how far a participant and a record move the sum, and hold it to the record rule.
`;

writeFileSync(join(ROOT, ALGORITHMS_PAGE), page);
