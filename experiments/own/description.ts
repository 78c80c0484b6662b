import { z } from 'zod';
import { ALGORITHMS } from '../../src/learning/registry.ts';
import { algorithmOptions } from '../rows.ts';
import { TRAINING_DEFAULTS, type TrainingSettings } from '../settings.ts';

const hash = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits');

/** Whether a text fits into one line of a message and leaves a terminal as it is. */
export const isPrintable = (text: string): boolean => !/\p{Cc}/u.test(text);
const oneLine = (most: number): z.ZodString =>
  z.string().min(1).max(most).refine(isPrintable, 'expected text without control characters');
const fileName = oneLine(1_024);
const fileFields = { file: fileName, sha256: hash.optional() };

/** Types of numbers in files without a header. */
export const RAW_TYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'int64',
  'float32',
  'float64',
] as const;
export type RawType = (typeof RAW_TYPES)[number];

/** Numbers in files: idx, or little-endian numbers without a header where `type` is given. */
export interface ArrayFile {
  /** A file, or several whose records are one behind the other: beside the description, or where the command says. */
  readonly file: string | readonly string[];
  /** SHA-256 of the content of each, after decompression where the name ends in `.gz`. */
  readonly sha256?: string | readonly string[] | undefined;
  readonly type?: RawType | undefined;
  /** Numbers of a record; 1 if absent. Only beside `type`: idx files say it themselves. */
  readonly length?: number | undefined;
  /** Which number of each record is meant, or the first and the last; all of them if absent. */
  readonly columns?: number | readonly [number, number] | undefined;
}

const MOST_NUMBERS = 2 ** 20;

const column = z
  .number()
  .int()
  .min(0)
  .max(MOST_NUMBERS - 1);

const arrayFile: z.ZodType<ArrayFile> = z.union([
  fileName.transform((file) => ({ file })),
  z
    .strictObject({
      file: z.union([fileName, z.array(fileName).min(1).max(1_000)]),
      sha256: z.union([hash, z.array(hash).min(1)]).optional(),
      type: z.enum(RAW_TYPES).optional(),
      length: z.number().int().min(1).max(MOST_NUMBERS).optional(),
      columns: z.union([column, z.tuple([column, column])]).optional(),
    })
    .refine(({ length, type }) => length === undefined || type !== undefined, 'expected "type" beside "length"')
    .refine(
      ({ file, sha256 }) => sha256 === undefined || [file].flat().length === [sha256].flat().length,
      'expected a "sha256" for each file',
    ),
]) as z.ZodType<ArrayFile>;

/** The single files of numbers, each with its hash if it has one. */
export function partsOf({
  file,
  sha256,
}: ArrayFile): { readonly file: string; readonly sha256?: string | undefined }[] {
  const hashes = [sha256].flat() as readonly (string | undefined)[];
  return ([file].flat() as readonly string[]).map((name, i) => ({ file: name, sha256: hashes[i] }));
}

/** Records of one part of a data set in parallel files: what belongs together has the same place. */
export interface ArrayPart {
  readonly features: ArrayFile;
  readonly labels: ArrayFile;
  /** An integer for each record that says whose it is. */
  readonly owners?: ArrayFile | undefined;
}

const arrayPart: z.ZodType<ArrayPart> = z.strictObject({
  features: arrayFile,
  labels: arrayFile,
  owners: arrayFile.optional(),
});

const pair = z
  .tuple([z.number(), z.number()])
  .refine(
    ([low, high]) => low < high && 2 * (high - low) < Number.POSITIVE_INFINITY,
    'expected a low and a higher number whose distance is a number',
  );

/**
 * How numbers become features. `from`, `to`: cut to the one range and put on the other. `ranges`: one for each feature, put on
 * [-1, 1]. `standardized`: by moments of all training records, so that no record-level claim holds. Absent: as they are.
 */
export type Scale =
  | { readonly from: readonly [number, number]; readonly to: readonly [number, number] }
  | { readonly ranges: readonly (readonly [number, number])[] }
  | 'standardized';

const scale: z.ZodType<Scale> = z.union([
  z.strictObject({ from: pair, to: pair }),
  z.strictObject({ ranges: z.array(pair).min(1).max(MOST_NUMBERS) }),
  z.literal('standardized'),
]);

const classNumbers = z
  .array(z.number().int())
  .min(2)
  .max(256)
  .refine((labels) => new Set(labels).size === labels.length, 'expected every number once');

/** Records in files of numbers. */
export interface ArrayRecords {
  readonly kind: 'arrays';
  /** How many, with labels from 0; or the numbers that stand for them. */
  readonly classes: number | readonly number[];
  readonly train: ArrayPart;
  readonly test?: ArrayPart | undefined;
  readonly scale?: Scale | undefined;
  /** Planes of an image, one behind the other: its features become rows x columns x planes, as convolutions read them. */
  readonly planes?: number | undefined;
}

/** A file, or files by the name of the participant whose they are. */
export type TableFile = string | Readonly<Record<string, string>>;

const tableFile: z.ZodType<TableFile> = z.union([
  fileName,
  z.record(oneLine(64), fileName).refine((files) => Object.keys(files).length > 0, 'expected at least one file'),
]);

/** Records in tables with a header, whose columns a description explains. @see docs/own-data.md */
export interface TableRecords {
  readonly kind: 'table';
  readonly description: string;
  readonly train: TableFile;
  readonly test?: TableFile | undefined;
  /** Column that says whose a record is, where files do not. */
  readonly owner?: string | undefined;
}

/** How records come to participants. */
export type Split =
  | { readonly by: 'owner'; readonly trainShare?: number | undefined }
  | { readonly by: 'even'; readonly participants: number; readonly trainShare?: number | undefined }
  | {
      readonly by: 'dirichlet';
      readonly participants: number;
      readonly alpha: number;
      readonly trainShare?: number | undefined;
    }
  | {
      readonly by: 'counts' | 'records';
      readonly file: string;
      readonly sha256?: string | undefined;
      readonly trainShare?: number | undefined;
    };

const trainShare = z.number().gt(0).lt(1).optional();
const participants = z.number().int().min(1).max(65_535);
const split: z.ZodType<Split> = z.discriminatedUnion('by', [
  z.strictObject({ by: z.literal('owner'), trainShare }),
  z.strictObject({ by: z.literal('even'), participants, trainShare }),
  z.strictObject({ by: z.literal('dirichlet'), participants, alpha: z.number().min(1e-3).max(1e5), trainShare }),
  z.strictObject({ by: z.enum(['counts', 'records']), ...fileFields, trainShare }),
]);

const positive = z.number().min(1e-9).max(1e6);
const count = z.number().int().min(1).max(1_000_000);

/** What a description may say of training; the rest is as in any scenario. */
type DescribedSettings = {
  readonly [K in
    | 'rounds'
    | 'epochs'
    | 'batches'
    | 'batchSize'
    | 'stepSize'
    | 'serverStep'
    | 'momentum'
    | 'clippingNorm'
    | 'unit'
    | 'delta'
    | 'slots'
    | 'samplingProbability'
    | 'tuning'
    | 'options']?: TrainingSettings[K] | undefined;
};

const settings: z.ZodType<DescribedSettings> = z
  .strictObject({
    rounds: z.number().int().min(1).max(100_000).optional(),
    epochs: count.optional(),
    batches: count.optional(),
    batchSize: count.optional(),
    stepSize: positive.optional(),
    serverStep: positive.optional(),
    momentum: z.number().min(0).lt(1).optional(),
    clippingNorm: positive.optional(),
    unit: z.enum(['record', 'participant']).optional(),
    delta: z.number().min(1e-12).max(0.5).optional(),
    slots: z.number().int().min(2).max(64).optional(),
    samplingProbability: z.number().gt(0).max(1).optional(),
    tuning: z.strictObject({ epochs: count, batchSize: count, stepSize: positive }).optional(),
    options: z
      .record(z.string(), z.record(z.string(), z.number()))
      .superRefine((options, context) => {
        for (const id of Object.keys(options))
          if (!ALGORITHMS.some(({ info }) => info.id === id))
            context.addIssue({ code: 'custom', message: 'expected the id of an algorithm', path: [id] });
      })
      .optional(),
  })
  .refine(
    ({ batches, epochs }) => batches === undefined || epochs === undefined,
    'expected "epochs" or "batches", got both',
  );

/** A scenario of somebody's own records. @see docs/scenarios.md */
export interface ScenarioDescription {
  readonly id: string;
  readonly about: string;
  readonly licence: string;
  readonly records: ArrayRecords | TableRecords;
  readonly split: Split;
  readonly model: { readonly hidden: readonly number[]; readonly sharedLayers?: number | undefined };
  readonly settings: DescribedSettings;
}

export const scenarioDescriptionSchema: z.ZodType<ScenarioDescription> = z.strictObject({
  id: z
    .string()
    .max(64)
    .regex(/^[a-z0-9][a-z0-9.-]*$/, 'expected small letters, digits, dots and hyphens'),
  about: z.string().max(1_000).default(''),
  licence: z.string().max(1_000).default('not stated'),
  records: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('arrays'),
      classes: z.union([z.number().int().min(2).max(256), classNumbers]),
      train: arrayPart,
      test: arrayPart.optional(),
      scale: scale.optional(),
      planes: z.number().int().min(2).max(1_024).optional(),
    }),
    z.strictObject({
      kind: z.literal('table'),
      description: fileName,
      train: tableFile,
      test: tableFile.optional(),
      owner: z.string().min(1).max(200).optional(),
    }),
  ]),
  split: split.default({ by: 'owner' }),
  model: z
    .strictObject({
      hidden: z.array(z.number().int().min(1).max(65_536)).max(4).default([]),
      sharedLayers: z.number().int().min(0).max(4).optional(),
    })
    .default({ hidden: [] }),
  settings: settings.default({}),
}) as z.ZodType<ScenarioDescription>;

/**
 * Settings of a description over those of any scenario.
 * @throws CoveyError USAGE_CONFIG for options of an algorithm that does not exist or has no such option.
 */
export function describedSettings({ settings }: ScenarioDescription): TrainingSettings {
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  const { common, record } = TRAINING_DEFAULTS;
  const described = { ...common, ...(settings.unit === 'record' ? record : {}), ...given };
  // Also of algorithms that are not run: a misspelt name would be passed over in silence.
  for (const id of Object.keys(settings.options ?? {})) algorithmOptions(id, described, {});
  return described;
}
