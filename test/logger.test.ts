import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createLogger, type Logger } from '../platform/node/logger.ts';
import { CoveyError } from '../protocol/errors.ts';

const clock = { now: () => '2030-01-02T03:04:05.678Z', monotonicMs: () => 0 };
const folder = mkdtempSync(join(tmpdir(), 'covey-log-'));
afterAll(() => rmSync(folder, { recursive: true }));

function collect(form: 'json' | 'plain', level: 'debug' | 'info' = 'info'): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  return {
    logger: createLogger({ to: { write: (line) => lines.push(line), form }, level, clock, fields: { node: 'a' } }),
    lines,
  };
}

describe('logger', () => {
  it('writes one JSON object a line with level, time and facts', () => {
    const { logger, lines } = collect('json');
    logger.child({ run: 'r1' }).info('round released', { round: 3, survivors: 11, counts: [4, 4, 3] });
    logger.debug('not at this level');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        level: 'info',
        time: clock.now(),
        node: 'a',
        run: 'r1',
        round: 3,
        survivors: 11,
        counts: [4, 4, 3],
        msg: 'round released',
      },
    ]);
  });

  it('writes plain lines for people, without control characters', () => {
    const { logger, lines } = collect('plain');
    logger.warn('lost\u001b[2J', { organization: 'north hospital\n', round: 3 });
    expect(lines).toEqual(['03:04:05 warn lost [2J node=a organization="north hospital\\n" round=3']);
  });

  it('never writes secrets, by name or by kind', () => {
    const { logger, lines } = collect('json');
    const secret = 'deadbeef'.repeat(8);
    const names = [
      'secretSeed',
      'secret_key',
      'seed',
      'maskSeed',
      'privateKey',
      'share',
      'shares',
      'selfMask',
      'noise',
      'x',
      'update',
      'gradient',
      'passphrase',
      'Authorization',
      'entropy',
      'joinToken',
      'record',
    ];
    for (const name of names) logger.info('a', { [name]: secret, nested: { deeper: [{ [name]: secret }] } });
    logger.child(Object.fromEntries(names.map((name) => [name, secret]))).info('b');
    const bytes = new Uint8Array(32).fill(0xab);
    logger.info('c', {
      value: bytes,
      list: [bytes],
      view: new Float64Array([0.123456789]),
      buffer: Buffer.from(bytes),
      many: Array(1_000).fill(0.123456789),
      map: new Map([['k', 0.123456789]]),
    });
    logger.error('d', {
      error: new CoveyError(
        'CRYPTO_SHARE',
        'a share does not fit',
        { dealer: 'a1', lengths: [32] },
        { cause: new Error('inner') },
      ),
    });
    const text = lines.join('\n');
    expect(text).not.toContain('deadbeef');
    expect(text).not.toMatch(/\b171,171|abab|0\.1234/);
    expect(JSON.parse(lines.at(-2) as string)).toMatchObject({
      value: '[32 bytes]',
      list: ['[32 bytes]'],
      view: '[8 bytes]',
      many: '[1000 values]',
      map: '[1 values]',
    });
    expect(JSON.parse(lines.at(-1) as string)).toMatchObject({
      error: {
        name: 'CryptoError',
        code: 'CRYPTO_SHARE',
        message: 'a share does not fit',
        detail: { dealer: 'a1', lengths: [32] },
        cause: { message: 'inner' },
      },
    });
  });

  it('keeps public ids and counts', () => {
    const { logger, lines } = collect('json');
    const facts = {
      publicKey: 'ab'.repeat(32),
      id: 'cd'.repeat(32),
      sid: 'ef',
      epsilon: 1.5,
      phase: 'p3',
      organization: 'north',
      keys: 3,
      payloadBytes: 12,
    };
    logger.info('a', facts);
    expect(JSON.parse(lines[0] as string)).toMatchObject(facts);
  });

  it('survives values that have no end', () => {
    const { logger, lines } = collect('json');
    const loop: Record<string, unknown> = { big: 10n };
    loop['self'] = loop;
    logger.info('a', { loop, text: 'y'.repeat(100_000), call: () => 1 });
    expect(lines[0]?.length).toBeLessThan(2_000);
    expect(lines[0]).toContain('[nested]');
  });

  it('appends to a file that only its owner can read', () => {
    const file = join(folder, 'logs', 'node.log');
    for (const message of ['first', 'second']) {
      const logger = createLogger({ to: { file }, clock });
      logger.info(message);
    }
    expect(
      readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    ).toEqual(['first', 'second']);
    if (process.platform !== 'win32') expect(statSync(file).mode & 0o777).toBe(0o600);
  });
});
