import { describeBlame } from './support/blame.ts';

describeBlame(23, 'strict');
describeBlame(211, 'sparse');
