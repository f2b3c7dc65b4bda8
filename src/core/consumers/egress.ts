import { lookup } from 'node:dns/promises';
import http from 'node:http';
import https from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { AppError } from '../errors.ts';

/** Where this service may send anything of its own accord. */
export interface EgressRules {
  /**
   * `host` (at its scheme's usual port), `host:port` or `*.example.com` (below it, not itself).
   * An address listed literally is meant as it stands, a private one too; a loopback one may be
   * called by plain http.
   */
  readonly allowedHosts: readonly string[];
  /** Names from `allowedHosts`, spelled out as `host` or `host:port`, that may resolve to private addresses. */
  readonly privateHosts?: readonly string[];
}

interface ResolvedAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

export type Resolve = (host: string) => Promise<readonly ResolvedAddress[]>;

/** A URL that the rules allow, with the only addresses that may be connected to. */
export interface Destination {
  readonly url: URL;
  readonly addresses: readonly ResolvedAddress[];
}

const systemResolve: Resolve = async (host) => {
  const found = await lookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => ({ address, family: isIP(address) === 6 ? 6 : 4 }));
};

/**
 * `url` with vetted addresses.
 * @throws AppError `consumer_refused` when the rules forbid it, `consumer_unreachable` when the
 * name does not resolve
 */
export async function vetDestination(
  url: string,
  rules: EgressRules,
  resolve: Resolve = systemResolve,
): Promise<Destination> {
  // The parser turns decimal, octal and encoded spellings of an address into the usual one.
  const parsed = URL.parse(url);
  if (parsed === null) throw refused('not a URL');
  checkSpelling(parsed, rules);
  const host = bareHost(parsed);
  const family = isIP(host);
  if (family !== 0)
    return { url: parsed, addresses: [{ address: host, family: family === 6 ? 6 : 4 }] };

  const addresses = await resolveName(host, resolve);
  const mayBePrivate = isListed(parsed, rules.privateHosts ?? []);
  const forbidden = addresses.find(({ address }) => !mayBePrivate && !isPublicAddress(address));
  if (forbidden !== undefined) throw refused(`${host} resolves to ${forbidden.address}`);
  return { url: parsed, addresses };
}

function checkSpelling(url: URL, rules: EgressRules): void {
  const host = bareHost(url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw refused(`scheme ${url.protocol}`);
  if (url.username !== '' || url.password !== '') throw refused(`credentials in a URL of ${host}`);
  const isAddress = isIP(host) !== 0;
  const patterns = isAddress
    ? rules.allowedHosts.filter((pattern) => !pattern.startsWith('*.'))
    : rules.allowedHosts;
  if (!isListed(url, patterns)) throw refused(`${url.host} is not on the list of hosts`);
  if (url.protocol === 'http:' && !(isAddress && isLoopback(host))) {
    throw refused(`plain http to ${url.host}`);
  }
}

async function resolveName(host: string, resolve: Resolve): Promise<readonly ResolvedAddress[]> {
  try {
    const addresses = await resolve(host);
    if (addresses.length > 0) return addresses;
  } catch (cause) {
    throw new AppError('consumer_unreachable', { detail: `resolve ${host}`, cause });
  }
  throw new AppError('consumer_unreachable', { detail: `resolve ${host}: no address` });
}

function isListed(url: URL, patterns: readonly string[]): boolean {
  // `url.host` leaves out the port that is usual for the scheme; a pattern may name it.
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const exact = [url.host, `${url.hostname}:${port}`];
  return patterns.some((listed) => {
    const pattern = bracketed(listed.toLowerCase());
    if (!pattern.startsWith('*.')) return exact.includes(pattern);
    return exact.some((host) => host.endsWith(pattern.slice(1)) && host.length >= pattern.length);
  });
}

/** `::1` is written `[::1]` in URLs; both are understood in a list. */
function bracketed(pattern: string): string {
  return isIP(pattern) === 6 ? `[${pattern}]` : pattern;
}

function bareHost(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1');
}

function isLoopback(address: string): boolean {
  return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}

const notPublic = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  // Azure's own platform services answer here, from inside every virtual machine.
  ['168.63.129.16', 32],
] as const) {
  notPublic.addSubnet(network, bits, 'ipv4');
}
// Of IPv6 only 2000::/3 is given out; these parts of it are tunnels and documentation.
for (const [network, bits] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  notPublic.addSubnet(network, bits, 'ipv6');
}
const globalUnicast = new BlockList();
globalUnicast.addSubnet('2000::', 3, 'ipv6');

/**
 * True for an address on the public Internet: not private, loopback, link-local, shared, multicast,
 * reserved or one that wraps an IPv4 address. Source: IANA special-purpose address registries.
 */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !notPublic.check(address, 'ipv4');
  if (family !== 6 || address.includes('%')) return false;
  return globalUnicast.check(address, 'ipv6') && !notPublic.check(address, 'ipv6');
}

const bodyLimitBytes = 64 * 1024;

/**
 * The status of one POST to a vetted destination. Follows nothing and connects to the vetted
 * addresses only. Of the body at most 64 KiB are read, until `signal` at the latest, and dropped.
 * @throws what the socket throws; an AbortError at `signal`
 */
export function postTo(
  { url, addresses }: Destination,
  message: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
  signal: AbortSignal,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const body = Buffer.from(message.body);
  const request = (url.protocol === 'https:' ? https : http).request(
    url,
    {
      method: 'POST',
      headers: { ...message.headers, 'content-length': body.length },
      agent: false,
      lookup: pinnedLookup(addresses),
      signal,
    },
    (answer) => {
      // The status is the answer: a body that breaks off or never ends changes nothing.
      resolve(answer.statusCode ?? 0);
      let seen = 0;
      answer.on('data', (chunk: Buffer) => {
        seen += chunk.length;
        if (seen > bodyLimitBytes) answer.destroy();
      });
      answer.on('error', () => answer.destroy());
    },
  );
  request.on('error', reject);
  request.end(body);
  return promise;
}

function pinnedLookup(addresses: readonly ResolvedAddress[]): LookupFunction {
  return (_host, options, callback) => {
    const [first] = addresses;
    if (options.all === true) callback(null, [...addresses]);
    else callback(null, first?.address ?? '', first?.family);
  };
}

function refused(detail: string): AppError {
  return new AppError('consumer_refused', { detail });
}
