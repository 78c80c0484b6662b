export * from './budget/index.ts';
export { parseNumericCsv } from './data/csv.ts';
export type { Dataset, SplitData, SplitManifest } from './data/dataset.ts';
export { buildSplitManifest, createDataset, datasetHash } from './data/dataset.ts';
export { DIGITS_ORGANIZATIONS, generateDigits } from './data/digits.ts';
export { HEART_HOSPITALS, parseHeart } from './data/heart.ts';
export { type IdxArray, parseIdx } from './data/idx.ts';
export { splitByDirichlet, splitDatasetByDirichlet, splitTrainTest } from './data/partition.ts';
export { createRandom, type DataRandom } from './data/random.ts';
export type { ScenarioData, ScenarioManifest, ScenarioParticipant } from './data/scenario.ts';
export { createDenseOracle } from './learning/dense-oracle.ts';
export { accuracy, balancedAccuracy, summarizeAccuracies } from './learning/evaluation.ts';
export { trainLocalOnly } from './learning/local-training.ts';
export { createManifest, denseManifest, type ModelManifest, manifestHash } from './learning/manifest.ts';
export type { OptimizerSpec } from './learning/optimizer.ts';
export { copyModel, type GradientOracle, type Model } from './learning/oracle.ts';
export { createOracleTrainer, type OracleTrainerOptions } from './learning/oracle-trainer.ts';
export { fitOrKeep, probeRecordRule } from './learning/record-rule-probe.ts';
export type {
  Assurance,
  FitResult,
  FitTask,
  RecordGradientsResult,
  RecordGradientsTask,
  Trainer,
} from './learning/trainer.ts';
export { flattenModel, layoutOf, splitModel } from './learning/trainer.ts';
export { stepDitto } from './personalize/ditto.ts';
export { fineTune } from './personalize/fine-tuning.ts';
export * from './privacy/index.ts';
export { parseRunConfig, type RunConfig } from './run/config.ts';
export { planRun, type RunPlan } from './run/plan.ts';
export { scenarioConfig } from './run/scenario.ts';
export type { Store } from './run/store.ts';
