import { describeBlame } from '../support/blame.ts';

describeBlame(1);
