import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Metrics } from './metrics.ts';

export interface HealthOptions {
  /** True while the coordinator can open sessions: its store is open and it is not going down. */
  isReady(): boolean;
  readonly metrics: Pick<Metrics, 'render'>;
  onError(error: unknown): void;
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  contentType: string = 'text/plain; charset=utf-8',
): void {
  const body = Buffer.from(text, 'utf8');
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    // A body that came along is never read.
    ...(request.method === 'GET' || request.method === 'HEAD' ? {} : { Allow: 'GET, HEAD', Connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** Serves `/healthz` (the process answers), `/readyz` (sessions can open) and `/metrics` (Prometheus); nothing else. */
export function createHttpHandler(options: HealthOptions): RequestListener {
  return (request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return answer(request, response, 405, 'method not allowed\n');
    const [path] = (request.url ?? '').split('?');
    if (path === '/healthz') return answer(request, response, 200, 'ok\n');
    if (path === '/readyz')
      return options.isReady()
        ? answer(request, response, 200, 'ready\n')
        : answer(request, response, 503, 'not ready\n');
    if (path !== '/metrics') return answer(request, response, 404, 'not found\n');
    options.metrics
      .render()
      .then(({ contentType, text }) => answer(request, response, 200, text, contentType))
      .catch((error: unknown) => {
        options.onError(error);
        answer(request, response, 500, 'metrics are not available\n');
      });
  };
}
