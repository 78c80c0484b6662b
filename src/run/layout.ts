import { compareBytes, hashParts, toHex, utf8 } from '../../protocol/bytes.ts';
import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import { CoveyError } from '../../protocol/errors.ts';
import { LABELS } from '../../protocol/labels.ts';
import type { ReleasedModels } from '../learning/algorithm.ts';
import type { ModelManifest } from '../learning/manifest.ts';
import type { Model } from '../learning/oracle.ts';
import { layoutOf, parameterCount } from '../learning/trainer.ts';
import type { RunConfig } from './config.ts';
import { encodeModels, initialModels, modelManifest } from './released.ts';

/** What a site says about the models that it trains. */
export interface ModelPolicy {
  readonly maxParameters?: number | undefined;
  readonly layouts?: readonly string[] | undefined;
}

/**
 * Checks the layout that a run was opened with against the tensors that its model has here, and against what the site
 * trains: parameters of one layout are never taken for those of another one.
 * @throws CoveyError PRIVACY_POLICY
 */
export function requireLayout(
  crypto: CryptoProvider,
  config: RunConfig,
  declared: string | undefined,
  { layouts, maxParameters = Number.POSITIVE_INFINITY }: ModelPolicy = {},
): void {
  const manifest = modelManifest(config);
  const refuse = (field: string, expected: string, got: string | number): never => {
    throw new CoveyError('PRIVACY_POLICY', `"${field}" expected ${expected}, got ${got}`, { field });
  };
  const parameters = parameterCount(manifest);
  if (parameters > maxParameters) refuse('model', `at most ${maxParameters} parameters`, parameters);
  const layout = layoutOf(crypto, manifest);
  // Runs of perceptrons were opened without one in earlier versions.
  const isOld = declared === undefined && config.model.network === undefined;
  if (!isOld && declared !== layout) refuse('layout', `${layout} of the tensors of the model`, declared ?? 'none');
  if (layouts !== undefined && !layouts.includes(layout))
    refuse('layout', `one of the ${layouts.length} that this site trains`, layout);
}

/** Weights that the models of a run start from in the place of draws from the public seed. */
export interface StartingWeights {
  readonly body: Float32Array;
  readonly head: Float32Array;
}

/** Rounds a model to what is sent of it. @throws CoveyError USAGE_RANGE for another shape or numbers that are not finite. */
export function startingWeights(manifest: ModelManifest, { body, head }: Model): StartingWeights {
  if (body.length !== manifest.bodyLength || head.length !== manifest.headLength)
    throw new CoveyError(
      'USAGE_RANGE',
      `"weights" expected ${manifest.bodyLength} + ${manifest.headLength} parameters, got ${body.length} + ${head.length}`,
    );
  const start = { body: Float32Array.from(body), head: Float32Array.from(head) };
  if (![start.body, start.head].every((values) => values.every(Number.isFinite)))
    throw new CoveyError('USAGE_RANGE', '"weights" expected finite numbers in single precision');
  return start;
}

/** Hash of starting weights in hex, as a configuration names them. */
export function startingHash(crypto: CryptoProvider, { body, head }: StartingWeights): string {
  return toHex(hashParts(crypto, utf8(LABELS.models), encodeModels({ body, heads: [head], extra: [] })));
}

/**
 * Checks that the weights at hand are those that a configuration names; nothing is asked of one that names none.
 * @throws CoveyError USAGE_CONFIG
 */
export function requireStart(crypto: CryptoProvider, config: RunConfig, start: StartingWeights | undefined): void {
  const { initialWeights } = config.training;
  const got = start === undefined ? undefined : startingHash(crypto, start);
  if (initialWeights !== got)
    throw new CoveyError(
      'USAGE_CONFIG',
      `"training.initialWeights" expected weights with the hash ${initialWeights ?? 'none'}, got ${got ?? 'none'}`,
    );
}

const bytesOf = ({ buffer, byteLength, byteOffset }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/**
 * Checks models of a session before the first release against the weights that the configuration names, or else the draws
 * from its public seed: nobody trains from a start that somebody made up.
 * `cluster`: the one whose models a session in the open is of. @throws CoveyError PRIVACY_POLICY
 */
export function checkStart(
  crypto: CryptoProvider,
  config: RunConfig,
  { body, heads }: Pick<ReleasedModels, 'body' | 'heads'>,
  cluster: number | null,
): void {
  const { initialWeights } = config.training;
  const own = cluster === null ? heads : heads.slice(cluster, cluster + 1);
  const [head] = own;
  const isEqual = (a: Float32Array, b: Float32Array): boolean => compareBytes(bytesOf(a), bytesOf(b)) === 0;
  if (initialWeights === undefined) {
    const drawn = initialModels(config, heads.length);
    const first = cluster ?? 0;
    if (!isEqual(body, drawn.body) || !own.every((other, j) => isEqual(other, drawn.heads[first + j] as Float32Array)))
      throw new CoveyError('PRIVACY_POLICY', '"models" expected the draws from "training.initialSeed", got others');
    return;
  }
  const isNamed =
    head !== undefined &&
    own.every((other) => isEqual(other, head)) &&
    startingHash(crypto, { body, head }) === initialWeights;
  if (!isNamed)
    throw new CoveyError(
      'PRIVACY_POLICY',
      `"models" expected the starting weights ${initialWeights} of the configuration, got others`,
    );
}
