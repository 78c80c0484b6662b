import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SplitData } from '../../src/data/dataset.ts';
import { createRandom } from '../../src/data/random.ts';
import { accuracy } from '../../src/learning/evaluation.ts';
import { encodeModel } from '../../src/learning/model-files.ts';
import type { GradientOracle, Model } from '../../src/learning/oracle.ts';
import { copyModel } from '../../src/learning/oracle.ts';
import { stepDitto } from '../../src/personalize/ditto.ts';
import { fineTune } from '../../src/personalize/fine-tuning.ts';
import type { RunConfig } from '../../src/run/config.ts';
import { type MemberState, memberHead } from '../../src/run/member.ts';
import type { ReleasedModels } from '../../src/run/released.ts';

/** What a site measures of its models on its own test records; it stays at the site. */
export interface NodeEvaluation {
  readonly released: number;
  readonly personal: number;
  readonly overSteps: readonly { readonly step: number; readonly accuracy: number }[];
}

const TUNE_STREAM = 0x7475_6e65;
const DITTO_LAMBDA = 0.5;

/** The site's model among the released ones: the shared body with the head that it works with, the first before any. */
function ownModel(models: ReleasedModels, { slot, open }: MemberState): Model {
  const head = memberHead(models, slot, open) ?? models.heads[0] ?? new Float32Array(0);
  return copyModel({ body: models.body, head });
}

/** Personal model of a site: computed from its records and released values, never sent. */
export function personalize(config: RunConfig, oracle: GradientOracle, model: Model, data: SplitData): Model {
  const { method, epochs, batchSize, stepSize } = config.personal;
  const random = createRandom(config.data.seed, TUNE_STREAM);
  return method === 'ditto'
    ? stepDitto(oracle, model, model, data.train, random, { epochs, batchSize, stepSize, lambda: DITTO_LAMBDA })
    : fineTune(oracle, model, data.train, random, { epochs, batchSize, stepSize });
}

/** Follows a run at one site: accuracy every few steps, personal model and its file at the end. */
export function createEvaluator(
  data: SplitData,
  folder: string,
): {
  onModels(oracle: GradientOracle, step: number, models: ReleasedModels, member: MemberState): void;
  onFinished(
    config: RunConfig,
    oracle: GradientOracle,
    models: ReleasedModels,
    member: MemberState,
  ): Promise<NodeEvaluation>;
} {
  const overSteps: { step: number; accuracy: number }[] = [];
  return {
    onModels(oracle, step, models, member) {
      if (step % 5 === 0) overSteps.push({ step, accuracy: accuracy(oracle, ownModel(models, member), data.test) });
    },
    async onFinished(config, oracle, models, member) {
      const released = ownModel(models, member);
      const personal = personalize(config, oracle, released, data);
      const final = accuracy(oracle, released, data.test);
      overSteps.push({ step: config.training.steps, accuracy: final });
      const evaluation: NodeEvaluation = {
        released: final,
        personal: accuracy(oracle, personal, data.test),
        overSteps,
      };
      await writeFile(join(folder, 'evaluation.json'), `${JSON.stringify(evaluation)}\n`);
      await writeFile(join(folder, 'personal.safetensors'), encodeModel(oracle.manifest, personal));
      return evaluation;
    },
  };
}
