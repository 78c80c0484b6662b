import { createServer, type Server } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { createHttpHandler } from '../server/http/health.ts';
import { createMetrics } from '../server/http/metrics.ts';
import { createIdentity, servesHonestClient, startTestServer } from './support/transport.ts';

const servers: (Server | { close(): unknown })[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function serve(
  isReady: () => boolean,
  render?: () => Promise<never>,
): Promise<{ get(path: string, method?: string): Promise<Response>; errors: unknown[] }> {
  const metrics = createMetrics({ connectedNodes: () => 7, withProcess: false });
  metrics.observe({
    event: 'release',
    round: 5,
    kind: 'train',
    step: 4,
    steps: 80,
    survivors: 11,
    dropped: 1,
    epsilonServer: 1.25,
    epsilonRelease: 1.5,
    targetEpsilon: 8,
    counts: null,
    signalToNoise: 0.25,
    metrics: { mean: 0.75, stddev: 0.125, worstTenth: 0.5 },
    uploadBytesTotal: 12,
  });
  metrics.observe({ event: 'abort', round: 6, phase: 'p3', code: 'ROUND_TIMEOUT', reason: 'a phase ran out of time' });
  metrics.observe({ event: 'lost', organization: 'north' });
  const errors: unknown[] = [];
  const server = createServer(
    createHttpHandler({
      isReady,
      metrics: render === undefined ? metrics : { render },
      onError: (error) => errors.push(error),
    }),
  );
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { errors, get: (path, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method }) };
}

describe('http beside the socket', () => {
  it('tells health and readiness apart', async () => {
    let isReady = false;
    const { get } = await serve(() => isReady);
    expect([(await get('/healthz')).status, (await get('/readyz')).status]).toEqual([200, 503]);
    isReady = true;
    const ready = await get('/readyz?probe=1');
    expect([ready.status, await ready.text()]).toEqual([200, 'ready\n']);
  });

  it('shows public facts of the run to Prometheus', async () => {
    const { get } = await serve(() => true);
    const response = await get('/metrics');
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    for (const line of [
      'covey_connected_nodes 7',
      'covey_releases_total{kind="train"} 1',
      'covey_aborts_total{phase="p3",code="ROUND_TIMEOUT"} 1',
      'covey_lost_nodes_total 1',
      'covey_training_step 4',
      'covey_survivors 11',
      'covey_signal_to_noise 0.25',
      'covey_epsilon{view="server"} 1.25',
      'covey_epsilon{view="release"} 1.5',
      'covey_epsilon_target 8',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    // Names of organizations stay out of the monitoring.
    expect(text).not.toContain('north');
  });

  it('refuses other paths and methods, and answers when metrics fail', async () => {
    const { get, errors } = await serve(
      () => true,
      () => Promise.reject(new Error('broken')),
    );
    const statuses = await Promise.all([
      get('/'),
      get('/metrics/'),
      get('/%2e%2e/healthz'),
      get('/healthz', 'POST'),
      get('/healthz', 'HEAD'),
      get('/metrics'),
    ]);
    expect(statuses.map(({ status }) => status)).toEqual([404, 404, 200, 405, 200, 500]);
    expect(errors).toHaveLength(1);
  });

  it('shares the port with the WebSocket server', async () => {
    const metrics = createMetrics({ connectedNodes: () => 0, withProcess: false });
    const node = createIdentity(1);
    const test = await startTestServer([node], {
      httpHandler: createHttpHandler({ isReady: () => true, metrics, onError: () => undefined }),
    });
    servers.push(test.server);
    expect((await fetch(`${test.url.replace('ws:', 'http:')}/healthz`)).status).toBe(200);
    expect(await servesHonestClient(test, node)).toBe(true);
  });
});
