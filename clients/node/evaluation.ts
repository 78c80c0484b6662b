import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SplitData } from '../../src/data/dataset.ts';
import { createRandom } from '../../src/data/random.ts';
import { accuracy } from '../../src/learning/evaluation.ts';
import { encodeModel } from '../../src/learning/model-files.ts';
import { personalModel, releasedModel } from '../../src/run/home.ts';
import type { NodeProgress } from '../core/node.ts';

/** What a site measures of its models on its own test records; it stays at the site. */
export interface NodeEvaluation {
  readonly released: number;
  readonly personal: number;
  readonly overSteps: readonly { readonly step: number; readonly accuracy: number }[];
}

const TUNE_STREAM = 0x7475_6e65;

type ModelsEvent = Extract<NodeProgress, { readonly event: 'models' }>;
type FinishedEvent = Extract<NodeProgress, { readonly event: 'finished' }>;

/** Follows a run at one site: accuracy every few steps, personal model and its file at the end. */
export function createEvaluator(
  data: SplitData,
  folder: string,
): { onModels(event: ModelsEvent): void; onFinished(event: FinishedEvent): Promise<NodeEvaluation> } {
  const overSteps: { step: number; accuracy: number }[] = [];
  const releasedAccuracy = ({ config, oracle, models, member }: ModelsEvent | FinishedEvent): number =>
    accuracy(oracle, releasedModel(config, models, member, { oracle, data: data.train }), data.test);
  return {
    onModels(event) {
      if (event.step % 5 === 0) overSteps.push({ step: event.step, accuracy: releasedAccuracy(event) });
    },
    async onFinished(event) {
      const { config, oracle, models, member, local } = event;
      const inputs = { oracle, data: data.train, local };
      const personal = personalModel(config, models, member, inputs, createRandom(config.data.seed, TUNE_STREAM));
      const released = releasedAccuracy(event);
      overSteps.push({ step: config.training.steps, accuracy: released });
      const evaluation: NodeEvaluation = { released, personal: accuracy(oracle, personal, data.test), overSteps };
      await writeFile(join(folder, 'evaluation.json'), `${JSON.stringify(evaluation)}\n`);
      await writeFile(join(folder, 'personal.safetensors'), encodeModel(oracle.manifest, personal));
      return evaluation;
    },
  };
}
