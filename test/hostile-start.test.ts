import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../platform/node/crypto.ts';
import { decodeParts, encodeParts, fromUtf8, hashParts, utf8 } from '../protocol/bytes.ts';
import { encodeSessionMessage, openFrame, readSessionMessage } from '../protocol/frame.ts';
import { LABELS } from '../protocol/labels.ts';
import { signMessage } from '../protocol/messages.ts';
import { decodeParams, encodeParams, sessionId } from '../protocol/params.ts';
import { signEntry, type UnsignedEntry } from '../src/audit/entries.ts';
import { denseManifest } from '../src/learning/manifest.ts';
import { parseRunConfig, type RunConfig } from '../src/run/config.ts';
import { startingHash, startingWeights } from '../src/run/layout.ts';
import { encodeRunMessage, readRunMessage } from '../src/run/messages.ts';
import { scenarioConfig } from '../src/run/scenario.ts';
import { type DeploymentOptions, deploy, OPEN_POLICY } from './support/deployment.ts';
import { COORDINATOR } from './support/transport.ts';

/*
 * A coordinator that holds its own key signs whatever it likes: other starting models than the run was opened with, for one
 * of the members. The real member refuses them in one line, before it has sent anything of a session.
 */
const MEMBERS = 4;
const VICTIM = 3;
const base = { seed: 5, targetEpsilon: 1e5, participants: MEMBERS };
const drawn = scenarioConfig('digits', { ...base, steps: 1, algorithm: { id: 'fedavg' } });
const manifest = denseManifest(drawn.model);
const filled = (length: number): Float64Array => Float64Array.from({ length }, (_, i) => Math.sin(i) / 4);
const start = startingWeights(manifest, { body: filled(manifest.bodyLength), head: filled(manifest.headLength) });
const named = parseRunConfig({
  ...drawn,
  training: { ...drawn.training, initialWeights: startingHash(nodeCrypto, start) },
});

type Parts = Uint8Array[];
const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);
const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer.slice(0));

/** Replaces the parts of the models - number of slots, body, heads - in a P0 and signs what came of it. */
function swapModels(bytes: Uint8Array, change: (parts: Parts) => Parts): Uint8Array {
  const frame = openFrame(bytes.slice());
  if (readRunMessage(frame) !== null) return bytes;
  const message = readSessionMessage(openFrame(bytes.slice()));
  if (message.type !== 'p0') return bytes;
  const [kind, step, group, models] = decodeParts(message.attachment) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const attachment = encodeParts([kind, step, group, encodeParts(change(decodeParts(models)))]);
  const modelHash = hashParts(nodeCrypto, utf8(LABELS.order), attachment);
  const params = { ...decodeParams(message.body), modelHash };
  const sid = sessionId(nodeCrypto, params);
  return encodeSessionMessage(
    signMessage(nodeCrypto, COORDINATOR.secretSeed, 'p0', sid, encodeParams(params), attachment),
  );
}

/** Changes what a signed `run.open` says of the configuration. */
function swapConfig(bytes: Uint8Array, change: (config: RunConfig) => RunConfig): Uint8Array {
  const message = readRunMessage(openFrame(bytes.slice()));
  if (message?.type !== 'run/log') return bytes;
  const { sig: _, ...entry } = JSON.parse(fromUtf8(message.payload)) as UnsignedEntry & { readonly sig: string };
  if (entry.type !== 'run.open') return bytes;
  const config = change(entry.body['config'] as unknown as RunConfig);
  const forged = { ...entry, body: { ...entry.body, config } } as unknown as UnsignedEntry;
  return encodeRunMessage({ type: 'run/log', payload: utf8(signEntry(forged, COORDINATOR.secretSeed, nodeCrypto)) });
}

/** What stopped the victim, and the types of the session messages that it had sent by then. */
async function refusalOf(
  config: RunConfig,
  forge: (bytes: Uint8Array) => Uint8Array,
): Promise<{ readonly line: string; readonly sent: readonly string[] }> {
  const sent: string[] = [];
  const options: DeploymentOptions = {
    config,
    runId: '0f0e0d0c0b0a09080706050403020100',
    policies: Array.from({ length: MEMBERS }, () => OPEN_POLICY),
    ...(config.training.initialWeights === undefined ? {} : { start }),
    tamper: (member, bytes) => (member === VICTIM ? forge(bytes) : bytes),
    onSend(member, bytes) {
      const frame = openFrame(bytes.slice());
      if (member === VICTIM && readRunMessage(frame) === null) sent.push(readSessionMessage(frame).type);
    },
    hangsUp: true,
  };
  const { log, nodeProgress } = await deploy(options);
  // The others go on without it.
  expect(log.filter(({ type }) => type === 'round.release')).toHaveLength(config.training.steps);
  const lines = nodeProgress.map((events) =>
    events.flatMap((event) => (event.event === 'aborted' ? [`${event.code} ${event.reason}`] : [])),
  );
  expect(lines.map(({ length }) => length)).toEqual([0, 0, 0, 1]);
  return { line: lines[VICTIM]?.[0] ?? '', sent };
}

const withBody = (change: (body: Float32Array) => Float32Array) => (bytes: Uint8Array) =>
  swapModels(bytes, ([slots, body, ...heads]) => [
    slots as Uint8Array,
    bytesOf(change(floats(body as Uint8Array))),
    ...heads,
  ]);
const put = (value: number): ((body: Float32Array) => Float32Array) => {
  return (body) => body.map((old, i) => (i === 7 ? value : old));
};

describe('a member whose coordinator sends it', () => {
  it.each([
    [
      'other weights than those that the signed log names',
      named,
      put(0.5),
      'PRIVACY_POLICY "models" expected the starting weights',
    ],
    [
      'other weights than the public seed draws',
      drawn,
      put(0.5),
      'PRIVACY_POLICY "models" expected the draws from "training.initialSeed"',
    ],
    ['weights that are no numbers', named, put(Number.NaN), 'CODEC_TYPE "model" expected finite numbers'],
    ['infinite weights', drawn, put(Number.POSITIVE_INFINITY), 'CODEC_TYPE "model" expected finite numbers'],
    [
      'another layout',
      named,
      (body: Float32Array) => body.slice(1),
      'CODEC_TYPE "model" expected the shape of the task, 3120 + 490 parameters in single precision, got 12476 bytes in part 1 of 2',
    ],
    ['far more than the task has', drawn, () => new Float32Array(2 ** 20), 'got 4194304 bytes in part 1 of 2'],
  ] as const)('%s sends nothing but its refusal', async (_, config, change, expected) => {
    const { line, sent } = await refusalOf(config, withBody(change));
    expect(line).toContain(expected);
    expect(sent).toEqual(['abort']);
  });

  it('another number of slots sends nothing but its refusal', async () => {
    const twice = (bytes: Uint8Array): Uint8Array =>
      swapModels(bytes, ([, body, head]) => [Uint8Array.of(2, 0, 0, 0), body, head, head] as Uint8Array[]);
    const { line, sent } = await refusalOf(drawn, twice);
    expect([line.includes('PRIVACY_POLICY "slots" expected 1 of the schedule, got 2'), sent]).toEqual([
      true,
      ['abort'],
    ]);
  });

  it('a log that names other weights than the file it starts from sends nothing but its refusal', async () => {
    const training = { ...named.training, initialWeights: 'ab'.repeat(32) };
    const { line, sent } = await refusalOf(named, (bytes) => swapConfig(bytes, (config) => ({ ...config, training })));
    expect([line, sent]).toEqual([expect.stringContaining('PRIVACY_POLICY "taskHash"'), ['abort']]);
  });

  it('what the run was opened with takes part: the forger alone is what is refused', async () => {
    const sent = new Set<string>();
    const { log } = await deploy({
      config: named,
      start,
      runId: '0f0e0d0c0b0a09080706050403020100',
      policies: Array.from({ length: MEMBERS }, () => OPEN_POLICY),
      // The same models, signed anew.
      tamper: (_, bytes) => swapModels(bytes, (parts) => parts),
      onSend(_, bytes) {
        const frame = openFrame(bytes.slice());
        if (readRunMessage(frame) === null) sent.add(readSessionMessage(frame).type);
      },
    });
    expect(log.filter(({ type }) => type === 'round.release')).toHaveLength(1);
    expect(sent.size).toBeGreaterThan(2);
  });
});
