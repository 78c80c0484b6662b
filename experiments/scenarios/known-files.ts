import type { KnownFile } from './data-source.ts';

const file = (path: string, bytes: number, sha256: string): KnownFile => ({ path, bytes, sha256 });

type KnownFileName =
  | 'mnistTrainImages'
  | 'mnistTrainLabels'
  | 'mnistTestImages'
  | 'mnistTestLabels'
  | 'pfllibSplit'
  | 'qmnistTrainLabels'
  | 'harIndex'
  | 'harFeatures'
  | 'harSignals'
  | 'harLabels'
  | 'heartSplit'
  | 'heartCleveland'
  | 'heartHungarian'
  | 'heartSwitzerland'
  | 'heartVa';

/** Every file a scenario reads. Units: size and SHA-256 of the content, after decompression where the path ends in .gz. */
export const KNOWN_FILES: Readonly<Record<KnownFileName, KnownFile>> = {
  mnistTrainImages: file(
    'mnist/train-images-idx3-ubyte.gz',
    47_040_016,
    'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
  ),
  mnistTrainLabels: file(
    'mnist/train-labels-idx1-ubyte.gz',
    60_008,
    '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
  ),
  mnistTestImages: file(
    'mnist/t10k-images-idx3-ubyte.gz',
    7_840_016,
    '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
  ),
  mnistTestLabels: file(
    'mnist/t10k-labels-idx1-ubyte.gz',
    10_008,
    'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
  ),
  pfllibSplit: file(
    'mnist/pfllib-dir0.1-config.json',
    896,
    '434e5ad755867a7b69c616faf487f0c7e7fa2685065e28a6dec9c70bb973f790',
  ),
  qmnistTrainLabels: file(
    'qmnist/qmnist-train-labels-idx2-int.gz',
    1_920_012,
    'bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5',
  ),
  harIndex: file('uci-har/index.json', 2_908, 'bf1e389365a8a9c6c909ff88043e53cb06de93247e88519f07077e9597e017a8'),
  harFeatures: file(
    'uci-har/features117-f32le.bin.gz',
    4_819_932,
    '349e6be1344370de106a846fc1fb34026f944b2c9abaca366051b41caed64181',
  ),
  harSignals: file(
    'uci-har/inertial-int16le.bin.gz',
    23_728_896,
    '8dd1631e3c7c88d836518ab1081f3308f3305ccf08bf0cfd16eb34674f44bf7b',
  ),
  harLabels: file(
    'uci-har/labels-uint8.bin',
    10_299,
    '2c57370a7bf71e411db6ed3c9fb06941948c32449b4b3c467c51af7be020ff2b',
  ),
  heartSplit: file(
    'uci-heart/flamby_test_indices.json',
    1_198,
    'e67f8b8881ce2429b02912216f6fc9cc79b0e71073b033ac02851e4c98c76400',
  ),
  heartCleveland: file(
    'uci-heart/processed.cleveland.data',
    18_461,
    'a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8',
  ),
  heartHungarian: file(
    'uci-heart/processed.hungarian.data',
    10_263,
    'd1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796',
  ),
  heartSwitzerland: file(
    'uci-heart/processed.switzerland.data',
    4_109,
    '834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314',
  ),
  heartVa: file(
    'uci-heart/processed.va.data',
    6_737,
    'e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f',
  ),
};
