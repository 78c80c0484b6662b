import { CoveyError, isCoveyError } from '../../protocol/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import { type FitResult, type FitTask, parameterCount, type RecordGradientsTask, type Trainer } from './trainer.ts';

/** Records that are asked for together. */
const PROBED_RECORDS = 32;

/** The data set with every other record exchanged for one that the site has anyway. */
function withOthersReplaced(data: Dataset, kept: number): Dataset {
  const { count, featureLength } = data;
  const features = data.features.slice();
  const labels = data.labels.slice();
  for (let record = 0; record < count; record++) {
    if (record === kept) continue;
    // A rotation, and the label of yet another record, so that features and labels do not belong together any more.
    const other = (record + 1) % count;
    features.set(data.features.subarray(other * featureLength, (other + 1) * featureLength), record * featureLength);
    labels[record] = data.labels[(record + 2) % count] as number;
  }
  return { ...data, features, labels };
}

function sameBits(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.prototype.every.call(a, (value, i) => Object.is(value, b[i]));
}

/**
 * Asks a trainer for the row of one record alone, among the other records in reverse order, and in a data set whose
 * other records were exchanged; the row must keep every bit (record rule, privacy section 1).
 * Finds mistakes such as statistics of a batch, a mean in place of a row, or a state that tasks leave behind.
 * Not guaranteed: that a trainer keeps the rule. One that wants to break it can recognize the probe.
 * @throws CoveyError PRIVACY_POLICY if a row differs.
 */
export async function probeRecordRule(trainer: Trainer, task: Omit<RecordGradientsTask, 'records'>): Promise<void> {
  const count = Math.min(task.data.count, PROBED_RECORDS);
  const length = parameterCount(trainer.manifest);
  const all = Uint32Array.from({ length: count }, (_, i) => count - 1 - i);
  const together = await trainer.recordGradients({ ...task, records: all });
  if (count === 0) return;
  for (const record of new Set([0, count >> 1, count - 1])) {
    const row = count - 1 - record;
    const among = together.gradients.subarray(row * length, (row + 1) * length);
    const records = Uint32Array.of(record);
    const alone = await trainer.recordGradients({ ...task, records });
    const exchanged = await trainer.recordGradients({ ...task, data: withOthersReplaced(task.data, record), records });
    if (!sameBits(alone.gradients, among) || !sameBits(alone.gradients, exchanged.gradients)) {
      throw new CoveyError(
        'PRIVACY_POLICY',
        `"recordGradients" expected rows that depend on their own record alone; the row of record ${record} does not`,
      );
    }
  }
}

/**
 * Trains, and keeps the given parameters where training fails for a reason that depends on the records: the update is
 * zero then, as if the site had learned nothing, and nobody can tell (privacy section 3.5). Faults of the caller are thrown.
 * Not guaranteed: that the time taken tells nothing; upload at a set time.
 */
export async function fitOrKeep(
  trainer: Trainer,
  task: FitTask,
): Promise<FitResult & { readonly failure: CoveyError | null }> {
  try {
    return { ...(await trainer.fit(task)), failure: null };
  } catch (error) {
    if (!isCoveyError(error) || !(error.code === 'USAGE_DIVERGED' || error.code.startsWith('DEP_TRAINER_')))
      throw error;
    const { assurance } = trainer;
    return { parameters: task.parameters.slice(), numExamples: 0, metrics: {}, assurance, failure: error };
  }
}
