import { z } from 'zod';
import { parseConfig } from '../../platform/node/config.ts';
import { CoveyError } from '../../protocol/errors.ts';
import type { TermKind } from '../../src/privacy/sum-event.ts';

/** The study beside its results, for plots and for whoever repeats it. */
export const STUDY_FILE = 'study.json';

/** Targets of a grid: an epsilon of the server's view, or `none`: noise that protects nothing, to see what protection costs. */
export type Target = number | 'none';

const positive: z.ZodNumber = z.number().min(1e-6).max(1e6);
const target: z.ZodType<Target> = z.union([z.number().min(1e-3).max(1e6), z.literal('none')]);
const count = (low: number, high: number): z.ZodNumber => z.number().int().min(low).max(high);
const mode: z.ZodType<'hidden' | 'hybrid' | 'open'> = z.enum(['hidden', 'hybrid', 'open']);
const terms: z.ZodType<TermKind> = z.enum(['integer', 'float-bounded']);

/** One value or a list of them: a list spans an axis of the grid. */
function axis<T>(value: z.ZodType<T>): z.ZodType<T | T[]> {
  return z.union([value, z.array(value).min(1).max(100)]);
}

type OneOrMany<T> = T | T[];

/** A grid over one scenario. Every combination of its axes is a cell; what is left out is as the scenario has it. */
export interface StudyPart {
  readonly scenario: string;
  readonly algorithm?: OneOrMany<string> | undefined;
  readonly epsilon?: OneOrMany<Target> | undefined;
  /** Noise deviation over sensitivity, in place of a target. */
  readonly noiseMultiplier?: OneOrMany<Target> | undefined;
  readonly clip?: OneOrMany<number> | undefined;
  readonly rounds?: OneOrMany<number> | undefined;
  /** Step size of the server. */
  readonly serverStep?: OneOrMany<number> | undefined;
  /** Unit record: probability that a record joins a step. */
  readonly sampling?: OneOrMany<number> | undefined;
  /** Unit record: sums of integers of each record, or rounded once. */
  readonly terms?: OneOrMany<TermKind> | undefined;
  /** Participants of a step, drawn anew; all if absent. */
  readonly perStep?: OneOrMany<number> | undefined;
  /** Share of them that is lost in every step. */
  readonly dropouts?: OneOrMany<number> | undefined;
  /** K of clustered algorithms. */
  readonly slots?: OneOrMany<number> | undefined;
  readonly mode?: OneOrMany<'hidden' | 'hybrid' | 'open'> | undefined;
  readonly unit?: 'record' | 'participant' | undefined;
  readonly delta?: number | undefined;
  readonly colluders?: number | undefined;
  readonly countNoise?: number | undefined;
  /** What the sum of a slot is divided by: an even share of the cohort, or the released count of its members. */
  readonly slotMean?: 'even' | 'counts' | undefined;
  /** A layers model in place of that of the scenario. Path of the file, from the study's folder. */
  readonly model?: string | undefined;
  /** Options of algorithms; each takes those that it has. */
  readonly set?: Readonly<Record<string, number>> | undefined;
}

/** A study: grids, and how often each cell runs. */
export interface Study {
  readonly title?: string | undefined;
  /** Runs of every cell, each with data, initial model and noise of its own seed. */
  readonly seeds?: number | undefined;
  readonly firstSeed?: number | undefined;
  readonly parts: readonly StudyPart[];
}

const partSchema: z.ZodType<StudyPart> = z.strictObject({
  scenario: z.string().min(1).max(4_096),
  algorithm: axis(z.string().min(1)).optional(),
  epsilon: axis(target).optional(),
  noiseMultiplier: axis(target).optional(),
  clip: axis(positive).optional(),
  rounds: axis(count(1, 100_000)).optional(),
  serverStep: axis(positive).optional(),
  sampling: axis(z.number().gt(0).max(1)).optional(),
  terms: axis(terms).optional(),
  perStep: axis(count(3, 65_535)).optional(),
  dropouts: axis(z.number().min(0).max(0.9)).optional(),
  slots: axis(count(2, 64)).optional(),
  mode: axis(mode).optional(),
  unit: z.enum(['record', 'participant']).optional(),
  delta: z.number().min(1e-12).max(0.5).optional(),
  colluders: count(0, 65_535).optional(),
  countNoise: positive.optional(),
  slotMean: z.enum(['even', 'counts']).optional(),
  model: z.string().min(1).max(4_096).optional(),
  set: z.record(z.string(), z.number()).optional(),
});

const studySchema: z.ZodType<Study> = z.strictObject({
  title: z.string().min(1).max(200).optional(),
  seeds: count(1, 1_000).optional(),
  firstSeed: count(0, 0xffff_0000).optional(),
  parts: z.array(partSchema).min(1).max(100),
});

/**
 * Reads a study in YAML or JSON.
 * @throws CoveyError USAGE_CONFIG, one line that names the field.
 */
export function parseStudy(text: string, name: string): Study {
  const study = parseConfig(text, name, studySchema);
  study.parts.forEach(({ epsilon, noiseMultiplier }, i) => {
    if (epsilon !== undefined && noiseMultiplier !== undefined)
      throw new CoveyError('USAGE_CONFIG', `"parts.${i}" expected epsilon or noiseMultiplier, got both (${name})`);
  });
  return study;
}

/** Values of an axis; `[undefined]` where the study leaves it out. */
export function valuesOf<T>(given: OneOrMany<T> | undefined): readonly (T | undefined)[] {
  return Array.isArray(given) ? [...new Set(given)] : [given];
}
