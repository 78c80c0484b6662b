import { CoveyError } from '../../protocol/errors.ts';

/** True for names and addresses that never leave this machine. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase();
  return name === 'localhost' || name === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

/**
 * Refuses plain text to another machine.
 * @throws CoveyError USAGE_CONFIG
 */
export function requireSecureUrl(url: string, insecure: boolean): void {
  if (!URL.canParse(url)) throw new CoveyError('USAGE_CONFIG', `"coordinator" expected a wss:// address, got "${url}"`);
  const { protocol, hostname } = new URL(url);
  if (protocol !== 'wss:' && protocol !== 'ws:')
    throw new CoveyError('USAGE_CONFIG', `"coordinator" expected a wss:// address, got "${url}"`);
  if (protocol === 'ws:' && !insecure && !isLoopback(hostname)) {
    throw new CoveyError(
      'USAGE_CONFIG',
      `"coordinator" expected wss:// outside this machine, got "${url}" (--insecure allows it)`,
    );
  }
}

/**
 * Refuses to listen in plain text where other machines can connect.
 * @throws CoveyError USAGE_CONFIG
 */
export function requireSecureHost(host: string, hasTls: boolean, insecure: boolean): void {
  if (hasTls || insecure || isLoopback(host)) return;
  throw new CoveyError(
    'USAGE_CONFIG',
    `"host" expected a loopback address behind a TLS proxy, or a certificate, got "${host}" (--insecure allows it)`,
  );
}
