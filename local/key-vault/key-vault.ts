import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { listen } from '../loopback-http.ts';
import { AuditRows } from './audit.ts';
import { type Clock, createClock } from './clock.ts';
import { type ControlPlane, respondToControl } from './control.ts';
import { type DataFile, openDataFile } from './data-file.ts';
import { challengeFor, type DataPlane, refuseMalformed, respond } from './data-plane.ts';
import {
  createVaultEvents,
  type EventSubject,
  type VaultEvent,
  type VaultEventKind,
} from './events.ts';
import { type ExpiryWatch, type NearExpiry, watchExpiry } from './expiry-watch.ts';
import { FaultRules } from './faults.ts';
import { operations } from './operations.ts';
import { currentVersion, objectTypes } from './store.ts';
import { createTokenCheck, type TokenRules } from './token-check.ts';
import { createVault, storeOf, type Vault } from './vault.ts';

export type { VaultEvent } from './events.ts';

type VaultOptions = {
  readonly name: string;
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** What ids start with; default `https://localhost:PORT`. Set it when a proxy stands in front. */
  readonly publicUrl?: string;
  /** 7 to 90, default 90. */
  readonly retentionDays?: number;
  readonly purgeProtection?: boolean;
};

export type KeyVaultOptions = {
  readonly vaults: readonly VaultOptions[];
  /** 0 or absent: any free port. */
  readonly controlPort?: number;
  readonly tls: { readonly key: string; readonly cert: string };
  /** Absent: any bearer token is accepted, but one must be there. */
  readonly verifyToken?: TokenRules;
  /** Tenant named in challenges. */
  readonly tenantId?: string;
  /** Gets every event of every vault's system topic. */
  readonly onEvent?: (event: VaultEvent) => unknown;
  /** Defaults: 30 days, 900 s. */
  readonly nearExpiry?: Partial<NearExpiry>;
  readonly location?: string;
  readonly subscriptionId?: string;
  readonly geography?: string;
  /** State is loaded from it at start and kept in it; absent: memory only. */
  readonly dataFile?: string;
};

export type KeyVaultEmulator = {
  readonly vaults: readonly { readonly name: string; readonly url: string }[];
  readonly controlUrl: string;
  /** Closes every connection, saves the state, leaves no timer. */
  readonly stop: () => Promise<void>;
};

type Endpoint = { readonly port: number; readonly close: () => Promise<void> };

const defaultTenantId = '5f9c7a52-3a3e-4d0f-9b51-6c2f0e8d1a47';
const defaultSubscriptionId = '00000000-0000-0000-0000-000000000000';
const defaultNearExpiry: NearExpiry = { leadSeconds: 30 * 86_400, delaySeconds: 900 };

/**
 * Starts the emulator: one TLS port a vault on 127.0.0.1, and the control API on a plain port.
 *
 * @throws Error when a port is taken, a vault setting is wrong or the data file cannot be read; nothing is left open
 */
export async function startKeyVault(options: KeyVaultOptions): Promise<KeyVaultEmulator> {
  const parts = assemble(options);
  const { vaults, clock, watch, data } = parts;
  const endpoints: Endpoint[] = [];
  const stop = async (): Promise<void> => {
    clock.stop();
    await Promise.all(endpoints.map(({ close }) => close()));
    await data.flush();
  };
  try {
    await data.load();
    for (const vault of vaults) endpoints.push(await serveVault(parts, vault, options));
    const control = await serveControl(parts, options.controlPort ?? 0);
    endpoints.push(control);
    // Only now: events carry the vault's URL, which is known once it listens.
    for (const vault of vaults) watchAll(vault, watch);
    return {
      vaults: vaults.map(({ name, publicUrl }) => ({ name, url: publicUrl })),
      controlUrl: `http://127.0.0.1:${control.port}`,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Parts = {
  readonly vaults: readonly Vault[];
  readonly clock: Clock;
  readonly watch: ExpiryWatch;
  readonly data: DataFile;
  readonly control: ControlPlane;
  /** A data plane but for its vault. */
  readonly shared: Omit<DataPlane, 'vault'>;
};

function assemble(options: KeyVaultOptions): Parts {
  const clock = createClock();
  const { now } = clock;
  const vaults = createVaults(options);
  const events = createVaultEvents(clock, options.onEvent ?? (() => undefined));
  const announce = (kind: VaultEventKind, about: EventSubject): void => {
    events.send(kind, about);
    // The version is marked as announced, which must outlive this process too.
    data.changed();
  };
  const watch = watchExpiry(clock, { ...defaultNearExpiry, ...options.nearExpiry }, announce);
  const data = openDataFile(options.dataFile ?? null, vaults);
  const changed: DataPlane['changed'] = (vault, { type, object, event }) => {
    const about = { vault, type, object };
    if (event !== undefined) events.send(event, { ...about, version: currentVersion(object) });
    watch.watch(about);
    data.changed();
  };
  const faults = new FaultRules();
  const audit = new AuditRows();
  const challenge = challengeFor(options.tenantId ?? defaultTenantId);
  const checkToken = createTokenCheck(challenge, options.verifyToken);
  return {
    vaults,
    clock,
    watch,
    data,
    control: { vaults, faults, audit, events, startedAt: new Date(), now },
    shared: { operations, challenge, checkToken, faults, audit, changed, now },
  };
}

function createVaults({ vaults, location = 'local', ...place }: KeyVaultOptions): Vault[] {
  const { subscriptionId = defaultSubscriptionId, geography = 'local' } = place;
  const names = vaults.map(({ name }) => name.toLowerCase());
  if (names.length === 0) throw new Error('The emulator needs at least one vault.');
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Error(`Two vaults are named "${twice}".`);
  return vaults.map(({ name, retentionDays = 90, purgeProtection = false }) =>
    createVault({ name, retentionDays, purgeProtection, location, subscriptionId, geography }),
  );
}

function watchAll(vault: Vault, { watch }: ExpiryWatch): void {
  for (const type of objectTypes) {
    for (const object of storeOf(vault, type).list()) watch({ vault, type, object });
  }
}

async function serveVault(
  { shared }: Parts,
  vault: Vault,
  { vaults, tls }: KeyVaultOptions,
): Promise<Endpoint> {
  const wanted = vaults.find(({ name }) => name === vault.name);
  const plane: DataPlane = { ...shared, vault };
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    respond(plane, request, response).catch((error: unknown) => {
      console.error(`key-vault: ${request.method} ${request.url} was not answered`, error);
      response.destroy();
    });
  };
  // Node would refuse a request without Host, or with an unknown Expect, with an empty body.
  const server = createTlsServer({ ...tls, requireHostHeader: false }, answer);
  server.on('checkExpectation', answer);
  server.on('clientError', refuseMalformed);
  // Longer than clients keep idle connections, lest they write into one that is being closed.
  server.keepAliveTimeout = 65_000;
  const endpoint = await open(server, wanted?.port ?? 0, `vault ${vault.name}`);
  vault.publicUrl = (wanted?.publicUrl ?? `https://localhost:${endpoint.port}`).replace(/\/$/, '');
  return endpoint;
}

function serveControl({ control }: Parts, port: number): Promise<Endpoint> {
  const server = createHttpServer((request, response) => {
    void respondToControl(control, request, response);
  });
  return open(server, port, 'control API');
}

async function open(server: Server | TlsServer, port: number, what: string): Promise<Endpoint> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      // Not closeAllConnections: it overlooks clients that never finished their TLS handshake.
      for (const socket of sockets) socket.destroy();
    });
  return { port: await listen(server, port, what), close };
}
