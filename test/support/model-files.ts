import { utf8 } from '../../protocol/bytes.ts';

/** A layer as a layers file has it. */
export const layer = (className: string, config: Readonly<Record<string, unknown>>): unknown => ({
  class_name: className,
  config: { name: className.toLowerCase(), ...config },
});

/** A layers file of these layers, in the bytes that a run reads. */
export function modelFile(layers: readonly unknown[]): Uint8Array {
  const topology = { class_name: 'Sequential', config: { name: 'model', layers } };
  return utf8(JSON.stringify({ format: 'layers-model', modelTopology: topology, weightsManifest: [] }));
}

/** A small convolutional network on the digits: 8 x 8 points in, ten classes out. */
export const CONVOLUTIONAL: Uint8Array = modelFile([
  layer('Conv2D', {
    batch_input_shape: [null, 8, 8, 1],
    filters: 6,
    kernel_size: [3, 3],
    strides: [1, 1],
    padding: 'same',
    activation: 'relu',
  }),
  layer('MaxPooling2D', { pool_size: [2, 2], strides: [2, 2], padding: 'valid' }),
  layer('Flatten', {}),
  layer('Dense', { units: 10, activation: 'softmax' }),
]);
