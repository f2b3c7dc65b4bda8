import { once } from 'node:events';
import { createServer } from 'node:http';
import { Agent, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { startIdentity } from '../local/identity/identity.ts';
import { startKeyVault } from '../local/key-vault/key-vault.ts';
import { createLocalCa } from '../local/tls.ts';

// What benches of the emulator measure, in a process of its own.

const audience = 'https://vault.azure.net';

type Tls = { readonly key: string; readonly cert: string };
export type Wish =
  /** The emulator; answers `Served`. */
  | { readonly kind: 'emulator'; readonly tls: Tls }
  /** A server of node:http that gives one answer to everything; answers its port. */
  | { readonly kind: 'bare'; readonly headers: string[]; readonly body: string }
  /** Starts an emulator, identity service and all; answers milliseconds of CPU time, loading of modules aside. */
  | { readonly kind: 'start' }
  /** Puts secrets into an emulator and lists them page by page; answers bytes a secret. Needs `--expose-gc`. */
  | { readonly kind: 'list'; readonly secrets: number }
  /** Answers milliseconds of CPU time since the process began. */
  | { readonly kind: 'cpu' };
export type Served = { readonly port: number; readonly httpPort: number; readonly token: string };

function perform(wish: Wish): unknown {
  switch (wish.kind) {
    case 'emulator':
      return serveEmulator(wish.tls);
    case 'bare':
      return serveBare(wish);
    case 'start':
      return measureStart();
    case 'list':
      return measureList(wish.secrets);
    case 'cpu':
      return cpuMs();
  }
}

async function serveEmulator(tls: Tls): Promise<Served> {
  const identity = await startIdentity();
  const { jwksUri, issuer } = identity;
  const verifyToken = { jwksUri, issuer, audience };
  const { vaults } = await startKeyVault({
    vaults: [{ name: 'main', httpPort: 0 }],
    tls,
    verifyToken,
  });
  const token = await identity.issueToken({ audience });
  const [vault] = vaults;
  return { port: portOf(vault?.url), httpPort: portOf(vault?.httpUrl), token };
}

function portOf(url = ''): number {
  return Number(new URL(url).port);
}

async function serveBare({ headers, body }: Wish & { kind: 'bare' }): Promise<number> {
  const server = createServer((_, response) => {
    response.writeHead(200, headers).end(body);
  });
  server.keepAliveTimeout = 65_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** From nothing to the first answer to a caller with a token. */
async function measureStart(): Promise<number> {
  const before = cpuMs();
  const { key, cert } = await createLocalCa();
  const { httpPort, token } = await serveEmulator({ key, cert });
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(`http://127.0.0.1:${httpPort}/secrets?api-version=7.4`, { headers });
  if (answer.status !== 200) throw new Error(await answer.text());
  return cpuMs() - before;
}

async function measureList(secrets: number): Promise<number> {
  const tls = await createLocalCa();
  const { vaults, controlUrl } = await startKeyVault({ vaults: [{ name: 'main' }], tls });
  const agent = new Agent({ keepAlive: true, ca: tls.caPem });
  const url = vaults[0]?.url ?? '';
  // Once around, so that what every process has is there.
  await countListed(url, agent);
  const before = heapBytes();
  const answer = await fetch(`${controlUrl}/state`, { method: 'PUT', body: stateOf(secrets) });
  if (answer.status !== 204) throw new Error(await answer.text());
  const listed = await countListed(url, agent);
  if (listed !== secrets) throw new Error(`${listed} of ${secrets} secrets were listed`);
  return (heapBytes() - before) / secrets;
}

function stateOf(count: number): string {
  const live = Array.from({ length: count }, (_, index) => ({
    name: `secret-number-${index}`,
    versions: [
      {
        version: index.toString(16).padStart(32, '0'),
        value: `a-password-of-usual-length-${index}`,
        enabled: true,
        created: 1_800_000_000,
        updated: 1_800_000_000,
      },
    ],
  }));
  const empty = { live: [], deleted: [] };
  const main = { secrets: { live, deleted: [] }, keys: empty, certificates: empty };
  return JSON.stringify({ format: 2, vaults: { main } });
}

async function countListed(url: string, agent: Agent): Promise<number> {
  let count = 0;
  let next: string | null = `${url}/secrets?api-version=2026-04-01`;
  while (next !== null) {
    const page: { value: unknown[]; nextLink: string | null } = await getJson(next, agent);
    count += page.value.length;
    next = page.nextLink;
  }
  return count;
}

function getJson<T>(url: string, agent: Agent): Promise<T> {
  return new Promise((resolve, reject) => {
    get(url, { agent, headers: { authorization: 'Bearer any' } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(JSON.parse(text)));
    }).on('error', reject);
  });
}

function heapBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

process.on('message', async (wish: Wish) => {
  process.send?.(await perform(wish));
});
process.on('disconnect', () => process.exit());
