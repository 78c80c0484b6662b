import { CoveyError } from '../../protocol/errors.ts';
import { createDataset, type Dataset, type SplitData } from '../../src/data/dataset.ts';
import { imageDataset, once } from '../../src/data/images.ts';
import { createRandom } from '../../src/data/random.ts';
import type { ScenarioParticipant } from '../../src/data/scenario.ts';
import { MNIST_LICENCE, readTest, readTrain } from './mnist.ts';
import { defineScenario, type Scenario } from './scenario-type.ts';

const STREAM = 0x7475_0000;
const SIDE = 28;
/** Pixels of a feature's side: 7 x 7 features of an image. */
const POOL = 4;
const INPUTS = (SIDE / POOL) ** 2;
const CLASSES = 10;
/** Test images of each orientation. */
const TESTED = 1_000;

/** Features of black and white: MNIST to mean 0 and deviation 1 by constants that are public. */
const RANGE: readonly [number, number] = [-0.4242, 2.8215];

/** Means over 4 x 4 pixels. */
function pool(images: Dataset): Dataset {
  const features = new Float32Array(images.count * INPUTS);
  for (let image = 0; image < images.count; image++) {
    for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
      const [row, column] = [Math.floor(pixel / SIDE / POOL), Math.floor((pixel % SIDE) / POOL)];
      const at = image * INPUTS + row * (SIDE / POOL) + column;
      features[at] = (features[at] as number) + (images.features[image * SIDE * SIDE + pixel] as number) / POOL ** 2;
    }
  }
  return createDataset(INPUTS, images.classes, features, images.labels);
}

/** Small images in some orientations: for clusters whose number is not known, and for drift. */
export const turnedScenario: Scenario = defineScenario({
  id: 'turned-mnist',
  title: 'Small MNIST in one to four orientations, with drift',
  about:
    'MNIST pooled to 7 x 7, turned by one of the first "turns" quarter turns (group), "images" training images each, 1,000 ' +
    'test images of each orientation; with "drift" half of the upright group turns to the next orientation in mid-run.',
  licence: MNIST_LICENCE,
  folders: ['mnist'],
  options: {
    turns: { kind: 'integer', byDefault: 4, low: 1, high: 4 },
    participants: { kind: 'integer', byDefault: 240, low: 4, high: 10_000 },
    images: { kind: 'integer', byDefault: 100, low: 1, high: 10_000 },
    drift: { kind: 'integer', byDefault: 0, low: 0, high: 1 },
  },
  async build(seed, { turns, participants, images, drift }, source) {
    const [train, test] = [await readTrain(source), await readTest(source)];
    if (Math.ceil(participants / turns) * images > train.count)
      throw new CoveyError(
        'USAGE_CONFIG',
        `"images" expected at most ${Math.floor(train.count / Math.ceil(participants / turns))} for ${participants} participants, got ${images}`,
      );
    const tested = Uint32Array.from({ length: TESTED }, (_, i) => i);
    const orders = Array.from({ length: turns }, (_, group) => {
      const order = Uint32Array.from({ length: train.count }, (_, i) => i);
      createRandom(seed, STREAM + group).shuffle(order);
      return order;
    });
    const tests = Array.from({ length: 4 }, (_, turn) =>
      once(() => pool(imageDataset(test, tested, { turns: turn, range: RANGE }))),
    );
    const recordsOf = (own: Uint32Array, turn: number): SplitData => ({
      train: pool(imageDataset(train, own, { turns: turn, range: RANGE })),
      test: (tests[turn] as () => Dataset)(),
    });
    return {
      participants: Array.from({ length: participants }, (_, i): ScenarioParticipant => {
        const group = i % turns;
        const place = Math.floor(i / turns);
        const own = (orders[group] as Uint32Array).subarray(images * place, images * (place + 1));
        const next = turns % 4;
        const drifts = drift === 1 && group === 0 && place % 2 === 1;
        return {
          name: `participant-${i + 1}`,
          group,
          ...recordsOf(own, group),
          ...(drifts ? { later: { ...recordsOf(own, next), group: next } } : {}),
        };
      }),
      model: { inputs: INPUTS, hidden: [32], classes: CLASSES, sharedLayers: 0 },
      recordRule: true,
    };
  },
});
