import type { Dataset } from '../data/dataset.ts';
import type { ModelManifest } from './manifest.ts';

/** A flattened model with one head. Shapes: `bodyLength`, `headLength` of its manifest. */
export interface Model {
  readonly body: Float64Array;
  readonly head: Float64Array;
}

/**
 * Losses and gradients of one model family. Every call is a function of its arguments only: a gradient of a record
 * never depends on another record, on an earlier call or on optimizer state (record rule, privacy section 1).
 * Not guaranteed: equal bits on different engines, because Math.exp and Math.log differ; nothing here needs them, since
 * terms are clipped and rounded to integers before they are summed.
 */
export interface GradientOracle {
  readonly manifest: ModelManifest;
  /**
   * Overwrites `bodyGradient` and `headGradient` with the gradient of one record's loss and returns the loss.
   * A loss that overflows yields non-finite values, which the encoder turns into a zero term.
   */
  perRecordGradient(
    body: Float64Array,
    head: Float64Array,
    data: Dataset,
    record: number,
    bodyGradient: Float64Array,
    headGradient: Float64Array,
  ): number;
  /**
   * Overwrites the gradients with that of one record after the other and calls `visit` for each, with its place in `records`;
   * many records a pass, the bits of each a function of that record alone. Absent where `perRecordGradient` is as fast; what
   * changes that one leaves this one out.
   */
  recordGradients?(
    body: Float64Array,
    head: Float64Array,
    data: Dataset,
    records: Uint32Array,
    bodyGradient: Float64Array,
    headGradient: Float64Array,
    visit: (index: number, loss: number) => void,
  ): void;
  /** Overwrites the gradients with their mean over the records and returns the mean loss. For local training only. */
  meanGradient(
    body: Float64Array,
    head: Float64Array,
    data: Dataset,
    records: Uint32Array,
    bodyGradient: Float64Array,
    headGradient: Float64Array,
  ): number;
  /** Loss of every record, as bits of that record alone: slots and their scores turn on it. */
  losses(body: Float64Array, head: Float64Array, data: Dataset): Float64Array;
  /** Most likely class of every record; ties go to the lower class. */
  predict(body: Float64Array, head: Float64Array, data: Dataset): Uint8Array;
  /** Absent where the model has no body or the engine cannot cut there. */
  readonly extractor?: FeatureExtractor;
  /** Absent where the engine does not give the gradients of many records at a time. */
  readonly factors?: GradientFactors;
}

/**
 * A dense layer. The gradient of one record by its weights is the outer product of the layer's inputs and its output errors,
 * that by its biases the errors. Units: `kernel` is the offset of the weights in the group, inputs first; biases follow them.
 */
export interface FactoredLayer {
  readonly group: 'body' | 'head';
  readonly kernel: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly hasBias: boolean;
}

/**
 * Any other layer with parameters: what it adds to the gradient of a record is no outer product, and is written out.
 * Units: `offset` and `length` in the parameters of the group.
 */
export interface WrittenLayer {
  readonly group: 'body' | 'head';
  readonly offset: number;
  readonly length: number;
}

/** Gradients of some records, row after row; good until the next pass. Shapes: one array for each factored layer. */
export interface FactorRows {
  readonly inputs: readonly Float64Array[];
  readonly errors: readonly Float64Array[];
  readonly losses: Float64Array;
  /** Overwrites `gradient` with that of one row by a written layer. */
  write(layer: number, row: number, gradient: Float64Array): void;
}

/** Gradients of single records, of dense layers without writing them out: norms and clipped sums follow from the factors. */
export interface GradientFactors {
  readonly layers: readonly FactoredLayer[];
  readonly written: readonly WrittenLayer[];
  /** Most records of one pass. */
  readonly mostRecords: number;
  /** One pass forward and back. The bits of a row depend on its record alone, whatever the others are and wherever it stands. */
  pass(body: Float64Array, head: Float64Array, data: Dataset, records: Uint32Array): FactorRows;
}

/** The body of a model by itself: what algorithms on representations need. */
export interface FeatureExtractor {
  /** Outputs of the body for each record. */
  readonly featureLength: number;
  /** Features of the records, row after row. */
  features(body: Float64Array, data: Dataset, records: Uint32Array): Float64Array;
  /** Overwrites `bodyGradient` with the gradient of a loss whose derivative by the features is `errors`, row after row. */
  gradient(
    body: Float64Array,
    data: Dataset,
    records: Uint32Array,
    errors: Float64Array,
    bodyGradient: Float64Array,
  ): void;
}

/** Copies a model, from single or double precision, into doubles of its own. */
export function copyModel(model: { readonly body: ArrayLike<number>; readonly head: ArrayLike<number> }): Model {
  return { body: Float64Array.from(model.body), head: Float64Array.from(model.head) };
}
