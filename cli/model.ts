import type { Command } from 'commander';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { loadModelFile } from '../platform/node/model-file.ts';
import { denseManifest } from '../src/learning/manifest.ts';
import { layoutOf } from '../src/learning/trainer.ts';
import { checkModel } from '../src/run/network-schema.ts';
import { integerIn } from './options.ts';
import { table } from './table.ts';

interface ModelFlags {
  readonly sharedLayers?: number;
  readonly json: boolean;
}

async function show(file: string, { json, sharedLayers }: ModelFlags): Promise<void> {
  const { shape } = await loadModelFile(file, { sharedLayers });
  checkModel(shape);
  const manifest = denseManifest(shape);
  const { bodyLength, headLength, tensors } = manifest;
  const layout = layoutOf(nodeCrypto, manifest);
  const { classes, inputs } = shape;
  if (json) {
    console.log(JSON.stringify({ layout, inputs, classes, bodyLength, headLength, tensors }));
    return;
  }
  const kind = shape.network === undefined ? 'a perceptron, for every trainer' : 'a network, for a tensor engine';
  console.log(table([['tensor', 'shape', 'part'], ...tensors.map((t) => [t.name, t.shape.join(' x '), t.group])]));
  console.log(`\n${kind}: ${inputs} inputs, ${classes} classes, ${bodyLength} + ${headLength} parameters`);
  console.log(`layout ${layout}`);
}

export function addModelCommand(program: Command): void {
  program
    .command('model')
    .description('Check a layers model as a run would, and print its tensors and its layout')
    .argument('<file>', 'sequential layers model of tfjs-layers or Keras (JSON)')
    .option('--shared-layers <n>', 'layers with weights that form the shared body', integerIn(0, 64))
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      '\nExample:\n  covey model examples/models/conv.json\n\nA site that names the layout in its policy (layouts) trains no other model.\nExit codes: 0 a run accepts it, 2 it is refused',
    )
    .action(show);
}
