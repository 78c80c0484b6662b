import type { CryptoProvider } from '../../protocol/crypto-provider.ts';
import type { SessionParams } from '../../protocol/session.ts';
import { eachUnitGradient } from '../learning/unit-gradient.ts';
import { createEncoder } from '../privacy/encode.ts';
import { isFloatBounded, type RunConfig } from './config.ts';
import { factoredTerms } from './factored-terms.ts';
import type { SessionOrder } from './order.ts';
import { planTerms, type RecordInputs, streamOf } from './term-plan.ts';
import type { Placement } from './update.ts';

/** Unit `record`: one clipped gradient of every sampled record at the released point. */
export function recordTerms(
  crypto: CryptoProvider,
  config: RunConfig,
  order: SessionOrder,
  params: SessionParams,
  placement: Placement,
  inputs: RecordInputs,
): Int32Array {
  const plan = planTerms(crypto, config, order, placement, inputs);
  const { clippingNorm, scale, rotationSeed } = params.encoding;
  const { blocks, body, groups, isLeftOut, units } = plan;
  const spec = { blocks, clippingNorm, scale, rotationSeed };
  if (isFloatBounded(config))
    return factoredTerms(crypto, config, spec, plan, inputs, streamOf(crypto, inputs.seed, 'rounding'));
  const encoder = createEncoder(crypto, spec);
  const values = new Int32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  const term = { body: new Float64Array(body.length), head: new Float64Array(groups[0]?.head.length ?? 0) };
  for (const { head, slots, units: drawn, weight } of groups)
    eachUnitGradient(
      inputs.oracle,
      inputs.data,
      { body, head },
      drawn.map((unit) => units[unit] ?? []),
      term,
      (i, loss) => {
        if (isLeftOut(drawn[i] as number, loss)) return;
        const shared = weight === 1 || slots.length === 0 ? term.head : term.head.map((value) => weight * value);
        encoder.addRecord(values, [
          { block: 0, values: term.body },
          ...slots.map((slot) => ({ block: 1 + slot, values: shared })),
        ]);
      },
    );
  return values;
}
