export { type ComparisonRow, compareFederation, compareLocal, globalConfig, type Presence } from './comparison.ts';
export { type DemoOptions, type DemoResult, type PlannedLoss, planLosses, runDemo } from './demo.ts';
export { type InProcessOptions, type InProcessResult, runInProcess, simulatedRoster } from './in-process.ts';
export { type DataSource, type KnownFile, readKnownFile } from './scenarios/data-source.ts';
export { ORACLES, type Oracle, type OracleData } from './scenarios/oracles.ts';
export { findScenario, listScenarios, SCENARIOS, type ScenarioLine } from './scenarios/registry.ts';
export type { Scenario } from './scenarios/scenario-type.ts';
