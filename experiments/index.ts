export { type ComparisonRow, compareFederation, compareLocal, globalConfig, type Presence } from './comparison.ts';
export { type DemoOptions, type DemoResult, type PlannedLoss, planLosses, runDemo } from './demo.ts';
export { type InProcessOptions, type InProcessResult, runInProcess, simulatedRoster } from './in-process.ts';
