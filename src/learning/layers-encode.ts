import { type LayerSpec, pair } from './layer-sizes.ts';
import { layoutNetwork, type NetworkSpec } from './network.ts';

const ONES = { class_name: 'Ones', config: {} };
const ZEROS = { class_name: 'Zeros', config: {} };
/** Settings that tfjs-layers asks for; none of them changes what the network computes. */
const COMMON = { trainable: true, dtype: 'float32' };

function withKernel(layer: { readonly activation: string; readonly bias?: boolean | undefined }): object {
  return {
    ...COMMON,
    activation: layer.activation,
    use_bias: layer.bias !== false,
    kernel_initializer: ONES,
    bias_initializer: ZEROS,
  };
}

function classOf(layer: LayerSpec, input: readonly number[]): readonly [className: string, config: object] {
  switch (layer.kind) {
    case 'dense':
      return ['Dense', { ...withKernel(layer), units: layer.units }];
    case 'conv2d':
    case 'depthwiseConv2d': {
      const windows = {
        ...withKernel(layer),
        kernel_size: pair(layer.kernelSize),
        strides: pair(layer.stride),
        padding: layer.padding,
        data_format: 'channels_last',
        dilation_rate: [1, 1],
      };
      return layer.kind === 'conv2d'
        ? ['Conv2D', { ...windows, filters: layer.filters }]
        : ['DepthwiseConv2D', { ...windows, depth_multiplier: layer.multiplier, depthwise_initializer: ONES }];
    }
    case 'embedding':
      return [
        'Embedding',
        {
          ...COMMON,
          input_dim: layer.entries,
          output_dim: layer.width,
          input_length: input[0],
          embeddings_initializer: ONES,
          mask_zero: false,
        },
      ];
    case 'maxPool':
    case 'averagePool':
      return [
        layer.kind === 'maxPool' ? 'MaxPooling2D' : 'AveragePooling2D',
        {
          ...COMMON,
          pool_size: pair(layer.size),
          strides: pair(layer.stride),
          padding: layer.padding,
          data_format: 'channels_last',
        },
      ];
    case 'globalPool': {
      const name = `Global${layer.mode === 'max' ? 'Max' : 'Average'}Pooling${input.length - 1}D`;
      return [name, { ...COMMON, ...(input.length === 3 ? { data_format: 'channels_last' } : {}) }];
    }
    case 'activation':
      return ['Activation', { ...COMMON, activation: layer.activation }];
    case 'reshape':
      return ['Reshape', { ...COMMON, target_shape: layer.shape }];
    case 'flatten':
      return ['Flatten', COMMON];
  }
}

/** The layers of a network as tfjs-layers writes them, with softmax at the end; their names are those of the tensors. */
export function encodeLayers(spec: NetworkSpec): unknown[] {
  const { inputShape, layers, tensors } = layoutNetwork(spec);
  return layers.map(({ first, input, layer, tensors: count }, i) => {
    const [className, config] = classOf(layer, input);
    const name = count === 0 ? `${layer.kind}_at_${i + 1}` : tensors[first]?.name.split('/', 1)[0];
    return {
      class_name: className,
      config: {
        ...config,
        name,
        ...(i === 0 ? { batch_input_shape: [null, ...inputShape] } : {}),
        ...(i + 1 === layers.length ? { activation: 'softmax' } : {}),
      },
    };
  });
}
