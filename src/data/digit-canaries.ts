import { appendRecords, createDataset, type Dataset, selectRecords } from './dataset.ts';
import { generateDigits } from './digits.ts';
import { createRandom } from './random.ts';

const LABEL_STREAM = 0x6c61_6265;
/** Tells the writers of canaries from those of the organizations. */
const WRITERS = 0x5eed;

/** Canaries of one organization: real images with a wrong label, records that a model can only remember. */
export function digitCanaries(seed: number, organization: number): Dataset {
  const { train } = generateDigits((seed ^ WRITERS) >>> 0, organization);
  const random = createRandom(seed, LABEL_STREAM + organization);
  const labels = train.labels.map((label) => (label + 1 + random.integer(train.classes - 1)) % train.classes);
  return createDataset(train.featureLength, train.classes, train.features, labels);
}

/** Records of an organization followed by those of its canaries that are in. @throws CoveyError USAGE_RANGE */
export function withDigitCanaries(own: Dataset, seed: number, organization: number, included: Uint32Array): Dataset {
  return appendRecords(own, selectRecords(digitCanaries(seed, organization), included));
}
