import { parentPort } from 'node:worker_threads';
import { type MaskJob, runMaskJob } from './mask-job.ts';

// A thread of `createMaskPool`. What goes wrong here ends the thread; the pool then does the work itself.
parentPort?.on('message', (job: MaskJob) => {
  runMaskJob(job);
  parentPort?.postMessage(job, [job.words.buffer, job.seeds.buffer]);
});
parentPort?.postMessage('ready');
