import { describeBlame } from '../support/blame.ts';

describeBlame(1, 'strict');
describeBlame(7, 'sparse');
