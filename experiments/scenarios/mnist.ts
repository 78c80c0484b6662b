import { fromUtf8 } from '../../protocol/bytes.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { parseIdx } from '../../src/data/idx.ts';
import {
  createImageSet,
  type ImageSet,
  type ImageView,
  imageDataset,
  joinImageSets,
  once,
} from '../../src/data/images.ts';
import {
  type IndexSplit,
  splitByCounts,
  splitByDirichlet,
  splitByOwner,
  splitTrainTest,
} from '../../src/data/partition.ts';
import { parsePfllibCounts } from '../../src/data/pfllib.ts';
import { readWriters } from '../../src/data/qmnist.ts';
import { createRandom } from '../../src/data/random.ts';
import type { ScenarioParticipant } from '../../src/data/scenario.ts';
import { type DataSource, type KnownFile, readKnownFile } from './data-source.ts';
import { KNOWN_FILES } from './known-files.ts';
import { defineScenario, type Scenario } from './scenario-type.ts';

const CLASSES = 10;
const PIXELS = 784;
export const MNIST_LICENCE: string = 'CC BY-SA 3.0 (MNIST: LeCun, Cortes, Burges)';

/** Streams that keep the draws of these scenarios apart; a participant adds its number. */
const WRITERS_STREAM = 0x7772_0000;
const ROTATED_STREAM = 0x726f_0000;
const PFLLIB_STREAM = 0x7066_0000;
const DIRICHLET_STREAM = 0x6469_0000;

async function readImages(source: DataSource, images: KnownFile, labels: KnownFile): Promise<ImageSet> {
  return createImageSet(
    parseIdx(await readKnownFile(source, images)),
    parseIdx(await readKnownFile(source, labels)),
    CLASSES,
  );
}

export const readTrain = (source: DataSource): Promise<ImageSet> =>
  readImages(source, KNOWN_FILES.mnistTrainImages, KNOWN_FILES.mnistTrainLabels);
export const readTest = (source: DataSource): Promise<ImageSet> =>
  readImages(source, KNOWN_FILES.mnistTestImages, KNOWN_FILES.mnistTestLabels);

/**
 * A participant whose features are built each time they are read and belong to the reader: MNIST is 47 MB as bytes, 188 MB
 * as features, 752 MB as features in four turns.
 */
function imageParticipant(
  facts: Pick<ScenarioParticipant, 'name' | 'group'>,
  train: () => Dataset,
  test: () => Dataset,
): ScenarioParticipant {
  return {
    ...facts,
    get train() {
      return train();
    },
    get test() {
      return test();
    },
  };
}

/** Participants that divide their own images into training and test. */
function splitParticipant(
  facts: Pick<ScenarioParticipant, 'name' | 'group'>,
  images: ImageSet,
  { train, test }: IndexSplit,
  view?: ImageView,
): ScenarioParticipant {
  return imageParticipant(
    facts,
    () => imageDataset(images, train, view),
    () => imageDataset(images, test, view),
  );
}

/** Every writer of MNIST's training images is a participant. */
export const writersScenario: Scenario = defineScenario({
  id: 'qmnist-writers',
  title: 'MNIST by its 539 writers',
  about:
    'MNIST training images by the person who wrote them (QMNIST): 539 writers, 19 to 131 images each, 80 % for training. ' +
    'Group: census employee (0, 289 writers) or student (1, 250), to measure what cluster identities tell.',
  licence: `${MNIST_LICENCE}; QMNIST labels BSD (Yadav and Bottou 2019)`,
  folders: ['mnist', 'qmnist'],
  options: {},
  async build(seed, _options, source) {
    const images = await readTrain(source);
    const { writers, populations } = readWriters(
      parseIdx(await readKnownFile(source, KNOWN_FILES.qmnistTrainLabels)),
      images,
    );
    return {
      participants: splitByOwner(writers).map(({ owner, records }, i) =>
        splitParticipant(
          { name: `writer-${owner}`, group: populations.get(owner) ?? 0 },
          images,
          splitTrainTest(createRandom(seed, WRITERS_STREAM + i), records, 0.8),
        ),
      ),
      model: { inputs: PIXELS, hidden: [], classes: CLASSES },
      recordRule: true,
    };
  },
});

const TURNS = 4;

/** IFCA's rotated MNIST: a group for each quarter turn. */
export const rotatedScenario: Scenario = defineScenario({
  id: 'rotated-mnist',
  title: 'MNIST in four orientations',
  about:
    'Each participant holds 100 training images turned by 0, 90, 180 or 270 degrees (its group); 240 participants (mini) ' +
    'or 2,400 (full: each group holds all of MNIST once). Test: all 10,000 test images, turned the same way.',
  licence: MNIST_LICENCE,
  folders: ['mnist'],
  options: { size: { kind: 'choice', byDefault: 'mini', of: ['mini', 'full'] } },
  async build(seed, { size }, source) {
    const images = await readTrain(source);
    const testImages = await readTest(source);
    const everyTest = Uint32Array.from({ length: testImages.count }, (_, i) => i);
    const groups = Array.from({ length: TURNS }, (_, turns) => {
      const order = Uint32Array.from({ length: images.count }, (_, i) => i);
      createRandom(seed, ROTATED_STREAM + turns).shuffle(order);
      const view: ImageView = { turns, range: [0, 1] };
      return { order, view, test: once(() => imageDataset(testImages, everyTest, view)) };
    });
    const participants = Array.from({ length: size === 'full' ? 2400 : 240 }, (_, i): ScenarioParticipant => {
      const group = i % TURNS;
      const { order, view, test } = groups[group] as (typeof groups)[number];
      const start = 100 * Math.floor(i / TURNS);
      const own = order.subarray(start, start + 100);
      return imageParticipant({ name: `participant-${i + 1}`, group }, () => imageDataset(images, own, view), test);
    });
    // Whole models in the slots, as IFCA has them on these images: first layers of turned images have nothing in common.
    const model = { inputs: PIXELS, hidden: [200], classes: CLASSES, sharedLayers: 0 };
    return { participants, model, recordRule: true };
  },
});

/** The label split that PFLlib publishes for MNIST. */
export const pfllibScenario: Scenario = defineScenario({
  id: 'pfllib-mnist-dir0.1',
  title: "MNIST in PFLlib's label split",
  about:
    "All 70,000 images over 20 participants with the class counts of PFLlib's Dirichlet(.1) split, 75 % for training, " +
    'pixels in [-1, 1]. Counts are published, the choice of images is drawn here.',
  licence: MNIST_LICENCE,
  folders: ['mnist'],
  options: {},
  async build(seed, _options, source) {
    const images = joinImageSets(await readTrain(source), await readTest(source));
    const counts = parsePfllibCounts(fromUtf8(await readKnownFile(source, KNOWN_FILES.pfllibSplit)), CLASSES);
    const owned = splitByCounts(createRandom(seed, PFLLIB_STREAM), images.labels, CLASSES, counts);
    return {
      participants: owned.map((records, i) =>
        splitParticipant(
          { name: `client-${i}` },
          images,
          splitTrainTest(createRandom(seed, PFLLIB_STREAM + 1 + i), records, 0.75),
          { turns: 0, range: [-1, 1] },
        ),
      ),
      model: { inputs: PIXELS, hidden: [100], classes: CLASSES },
      recordRule: true,
    };
  },
});

/** MNIST with label skew of any strength. */
export const dirichletScenario: Scenario = defineScenario({
  id: 'mnist-dirichlet',
  title: 'MNIST with label skew',
  about:
    'MNIST training images over participants of equal size whose class shares are drawn from Dirichlet(alpha p), p the ' +
    'shares of the whole set (Hsu, Qi, Brown 2019); 80 % for training.',
  licence: MNIST_LICENCE,
  folders: ['mnist'],
  options: {
    alpha: { kind: 'number', byDefault: 0.5, low: 0.001, high: 10_000 },
    participants: { kind: 'integer', byDefault: 100, low: 1, high: 10_000 },
  },
  async build(seed, { alpha, participants }, source) {
    const images = await readTrain(source);
    const random = createRandom(seed, DIRICHLET_STREAM);
    return {
      participants: splitByDirichlet(random, images.labels, CLASSES, participants, alpha).map((records, i) =>
        splitParticipant(
          { name: `participant-${i + 1}` },
          images,
          splitTrainTest(createRandom(seed, DIRICHLET_STREAM + 1 + i), records, 0.8),
        ),
      ),
      model: { inputs: PIXELS, hidden: [], classes: CLASSES },
      recordRule: true,
    };
  },
});
