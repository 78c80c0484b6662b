import { arcsAndSpread, describeDropouts, describeSparseDropouts, everyNumber } from './support/dropout-matrix.ts';

for (const members of [3, 5, 12]) describeDropouts(members, everyNumber);
describeSparseDropouts(arcsAndSpread);
