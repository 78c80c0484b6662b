import { describeDropouts, describeSparseDropouts, everyNumber, everySubset } from '../support/dropout-matrix.ts';

describeDropouts(30, everyNumber);
describeDropouts(100, (most) => [0, 1, Math.floor(most / 2), most - 1, most]);
describeSparseDropouts(everySubset);
