import { fromUtf8 } from '../../protocol/bytes.ts';
import { selectRecords } from '../../src/data/dataset.ts';
import { HAR_CLASSES, HAR_FEATURES, HAR_RANGES, parseHar, readHarFeatures } from '../../src/data/har.ts';
import { HAR_SIGNAL_RANGES, harSignalReader } from '../../src/data/har-signals.ts';
import { splitTrainTest } from '../../src/data/partition.ts';
import { createRandom } from '../../src/data/random.ts';
import { pooledMoments, scaleByRanges, standardize } from '../../src/data/scaling.ts';
import { readKnownFile } from './data-source.ts';
import { KNOWN_FILES } from './known-files.ts';
import { defineScenario, type Scenario } from './scenario-type.ts';

/** Separates the streams of this scenario from every other use of the same seed. */
const STREAM = 0x6861_7200;
const TRAIN_SHARE = 0.8;

/** UCI activity recognition, a participant for each of the 30 subjects. */
export const harScenario: Scenario = defineScenario({
  id: 'har-30',
  title: 'Activities of 30 people from a phone at the waist',
  about:
    'UCI Human Activity Recognition: 10,299 windows of 2.56 s, 117 features, six activities, a participant a subject, ' +
    '80 % for training. Neighbouring windows overlap by half, so a random split is kinder than time would be.',
  licence:
    'CC BY 4.0 on the UCI page (Anguita et al. 2013); the read-me of the data asks for no commercial use: optional, never shipped',
  folders: ['uci-har'],
  options: {
    // `standardized` uses the moments of all subjects' training windows: no record-level claim holds for it.
    scaling: { kind: 'choice', byDefault: 'declared', of: ['declared', 'standardized'] },
    // `published` mixes the nine channels in every feature (see HarLayout); `signals` computes them channel by channel.
    features: { kind: 'choice', byDefault: 'published', of: ['published', 'signals'] },
  },
  async build(seed, { scaling, features }, source) {
    const published = features === 'published';
    const subjects = parseHar(
      fromUtf8(await readKnownFile(source, KNOWN_FILES.harIndex)),
      await readKnownFile(source, published ? KNOWN_FILES.harFeatures : KNOWN_FILES.harSignals),
      await readKnownFile(source, KNOWN_FILES.harLabels),
      published ? readHarFeatures : harSignalReader('time-first'),
    );
    const raw = subjects.map(({ subject, data }) => {
      const all = Uint32Array.from({ length: data.count }, (_, i) => i);
      const { train, test } = splitTrainTest(createRandom(seed, STREAM + subject), all, TRAIN_SHARE);
      return { name: `subject-${subject}`, train: selectRecords(data, train), test: selectRecords(data, test) };
    });
    const moments = scaling === 'standardized' ? pooledMoments(raw.map(({ train }) => train)) : null;
    const scale = (data: (typeof raw)[number]['train']): typeof data =>
      moments === null ? scaleByRanges(data, published ? HAR_RANGES : HAR_SIGNAL_RANGES) : standardize(data, moments);
    return {
      participants: raw.map(({ name, train, test }) => ({ name, train: scale(train), test: scale(test) })),
      model: { inputs: HAR_FEATURES, hidden: [64], classes: HAR_CLASSES },
      recordRule: moments === null,
    };
  },
});
