import { parseArgs } from 'node:util';
import { measureSession } from './session.ts';
import { settleLoop } from './threads.ts';

await settleLoop();

const { values: flags } = parseArgs({
  options: { members: { type: 'string', default: '100' }, coordinates: { type: 'string', default: '100000,1000000' } },
});
const members = Number(flags.members);
console.log(
  `One strict session, complete graph, n = ${members}, 21-bit lanes, AES-256 masks. CPU time, one thread, median member; Node ${process.version}.\n`,
);
console.log('| d | dropped | client CPU | upload | server CPU | of it unmasking |');
console.log('|---|---|---|---|---|---|');
for (const coordinates of flags.coordinates.split(',').map(Number)) {
  for (const share of [0, 0.1]) {
    const { clientMs, serverMs, unmaskMs, uploadBytes } = measureSession(
      members,
      coordinates,
      3,
      Math.floor(members * share),
    );
    console.log(
      `| ${coordinates} | ${100 * share} % | ${Math.round(clientMs)} ms | ${(uploadBytes / 1e6).toFixed(2)} MB | ${Math.round(serverMs)} ms | ${Math.round(unmaskMs)} ms |`,
    );
  }
}
console.log(`
Unmasking: secrets from shares and their checks, key agreements of the members that dropped, all masks off the sum. Goal at
n = 100, d = 1e6: <= 400 ms with nobody and <= 3,000 ms with 10 % dropped.

Peers, measured with the same n and d = 1e6 on a machine of the same kind (2-core AMD EPYC, one thread):
| work | Flower SecAgg+ |
|---|---|
| client total, complete graph | 1440 ms, 8.0 MB up |
| server unmask, 0 % / 10 % dropped | 88,300 ms / 125,500 ms |`);
