#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { isCoveyError } from '../protocol/errors.ts';
import { addAuditCommand } from './audit.ts';
import { addBudgetCommand } from './budget.ts';
import { addDemoCommand } from './demo.ts';
import { exitCodeOf } from './exit-codes.ts';
import { addExperimentCommand } from './experiment.ts';
import { addKeygenCommand } from './keygen.ts';
import { addModelCommand } from './model.ts';
import { addNodeCommand } from './node.ts';
import { addRosterCommand } from './roster.ts';
import { addServerCommand } from './server.ts';
import { addTranscriptCommand } from './transcript.ts';

const program = new Command('covey')
  .description('Train models together: the coordinator learns only noisy sums over groups of participants.')
  .version('0.1.0')
  .showHelpAfterError(false)
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'covey: ')) });

addDemoCommand(program);
addServerCommand(program);
addNodeCommand(program);
addModelCommand(program);
addKeygenCommand(program);
addRosterCommand(program);
addAuditCommand(program);
addTranscriptCommand(program);
addBudgetCommand(program);
addExperimentCommand(program);
program.addHelpText(
  'after',
  `
Examples:
  covey demo                          a whole federation on this machine
  covey demo --seed 7 --epsilon 4     another draw, a smaller budget
  covey budget plan --epsilon 4 --rounds 200 --sampling 0.05   noise for a target
  covey audit verify runs/demo-1      recompute every claim of a run

Exit codes: 0 success, 1 unexpected fault, 2 wrong usage or configuration, 3 privacy policy or budget refused,
  4 the run could not go on, 5 a dependency is missing, 10-21 an audit check failed (covey audit verify --help),
  22 a transcript does not verify, 23 an attack contradicts a claimed epsilon (covey audit attack --help).`,
);

try {
  await program.parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    if (process.exitCode === 2) console.error('Hint: covey --help lists the commands and options.');
  } else if (isCoveyError(error)) {
    console.error(`covey: ${error.message} [${error.code}]`);
    process.exitCode = exitCodeOf(error);
  } else {
    console.error('covey: an unexpected fault, please report it:', error);
    process.exitCode = 1;
  }
}
