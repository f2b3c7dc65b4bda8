import { z } from 'zod';
import { openAudit } from '../../src/core/audit/log.ts';
import { verifyAudit } from '../../src/core/audit/verify.ts';
import type { Clock } from '../../src/core/clock.ts';
import { AppError } from '../../src/core/errors.ts';
import type { LogFields } from '../../src/core/log.ts';
import { handleRotation } from '../../src/core/rotation/engine.ts';
import {
  type AnyHandler,
  defineHandler,
  type Fence,
  type Overlap,
} from '../../src/core/rotation/handler.ts';
import { generated } from '../../src/core/rotation/handlers/generated.ts';
import { isEnd, type Journal, parseJournal } from '../../src/core/rotation/journal.ts';
import { parseRotationMessage } from '../../src/core/rotation/message.ts';
import { sealedPendingStore, vaultPendingStore } from '../../src/core/rotation/pending.ts';
import { journalPrefix, shards } from '../../src/core/rotation/records.ts';
import { requestRotation } from '../../src/core/rotation/request.ts';
import type { EngineServices } from '../../src/core/rotation/services.ts';
import { listAll, sweep } from '../../src/core/rotation/sweep.ts';
import { type Credential, parseValue } from '../../src/core/rotation/value.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { simulatedVaults } from '../../src/core/simulation/vault.ts';
import { memoryDocuments, memoryLog, memoryQueue } from '../../src/core/storage/memory.ts';
import type { ObjectRef } from '../../src/core/vault/ports.ts';

export const orders: ObjectRef = { vault: 'main', type: 'secret', name: 'orders-db' };

/** A server that knows logins and passwords, and nothing else. */
export interface FakeServer {
  readonly logins: Map<string, string>;
  /** Throw to break a call before it has an effect; the admin's calls and log-ins alike. */
  fault: ((verb: string, login: string) => void) | null;
  /** As `fault`, after the effect. */
  faultAfter: ((verb: string, login: string) => void) | null;
}

/** A process that can be killed: from its k-th outbound call on, nothing it does has any effect. */
export interface Mortal {
  readonly services: EngineServices;
  calls: number;
  /** What each call was, in order: `store.transact`, `main.set`, `target.apply`, … */
  readonly trace: string[];
}

/** Stands between a process and the world: resolve to let the call through or its answer back. */
export interface Watch {
  before?(call: number, what: string): Promise<void> | void;
  after?(call: number, what: string): Promise<void> | void;
}

export interface Death {
  readonly call: number;
  readonly when: 'before' | 'after';
}

class Killed extends Error {}

export type World = ReturnType<typeof createWorld>;

/** Everything a rotation touches, in memory, on a clock of its own. */
export function createWorld(
  options: {
    readonly overlap?: Overlap;
    readonly pending?: 'vault' | 'sealed';
    readonly consumers?: readonly unknown[];
    readonly policy?: object;
    readonly handler?: 'fake' | 'generated';
  } = {},
) {
  const overlap = options.overlap ?? 'none';
  let now = new Date('2026-03-01T00:00:00Z').getTime();
  const clock: Clock = { now: () => new Date(now) };
  const store = memoryDocuments();
  const rotations = memoryQueue();
  const notifications = memoryQueue();
  const log = memoryLog();
  const vaults = simulatedVaults(
    [
      { alias: 'main', purpose: 'main' },
      { alias: 'pending', purpose: 'pending' },
    ],
    clock,
  );
  const server: FakeServer = { logins: new Map(), fault: null, faultAfter: null };
  const lines: { level: string; event: string; fields: LogFields }[] = [];
  const documents = documentsFor(overlap, options);
  const holder = { next: 0 };

  /** A fresh process; `death` is when it dies, if it does. */
  function start(death: Death | null = null, watch: Watch = {}): Mortal {
    const id = `p${++holder.next}`;
    const mortal: Omit<Mortal, 'services'> = { calls: 0, trace: [] };
    const gate: Gate = async (what, run) => {
      const call = ++mortal.calls;
      mortal.trace.push(what);
      await watch.before?.(call, what);
      if (death && (call > death.call || (call === death.call && death.when === 'before'))) {
        throw new Killed('killed');
      }
      const [result] = await Promise.allSettled([run()]);
      if (death && call === death.call) throw new Killed('killed');
      await watch.after?.(call, what);
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    };
    const gatedVaults = {
      ...vaults,
      get: (alias: string) => ({
        ...vaults.get(alias),
        secrets: gated(alias, vaults.get(alias).secrets, gate),
      }),
      all: () =>
        vaults
          .all()
          .map((vault) => ({ ...vault, secrets: gated(vault.alias, vault.secrets, gate) })),
    };
    const pendingSecrets = gatedVaults.get('pending').secrets;
    const services: EngineServices = {
      store: gated('store', store, gate),
      rotations: gated('rotations', rotations, gate),
      notifications: gated('notifications', notifications, gate),
      vaults: gatedVaults,
      documents: { read: async () => documents },
      handlers: new Map<string, AnyHandler>([
        ['fake', fakeHandler(server, clock, gate)],
        ['generated', generated],
      ]),
      pending:
        options.pending === 'sealed'
          ? sealedPendingStore(gatedVaults.get('pending').secrets, 'sealing-key')
          : vaultPendingStore(pendingSecrets),
      audit: openAudit(gated('audit', log, gate), { writer: id, clock }),
      clock,
      log: {
        info: (event, fields = {}) => void lines.push({ level: 'info', event, fields }),
        warn: (event, fields = {}) => void lines.push({ level: 'warn', event, fields }),
        error: (event, fields = {}) => void lines.push({ level: 'error', event, fields }),
      },
      settings: { holder: id, leaseSeconds: 60, retrySeconds: 2, invocationSeconds: 240 },
    };
    return Object.assign(mortal, { services });
  }

  async function seed(): Promise<void> {
    const first = overlap === 'users' ? 'app_a' : 'app';
    server.logins.set(first, 'first-password');
    if (overlap === 'users') server.logins.set('app_b', 'unknown-to-all');
    const text =
      overlap === 'users' ? '{"username":"app_a","password":"first-password"}' : 'first-password';
    const { secrets } = vaults.get('main');
    const expiresOn = new Date(now + 3600_000);
    await secrets.set('orders-db', {
      value: new SecretString(text),
      expiresOn,
      tags: { owner: 'shop' },
    });
    await secrets.set('db-admin', { value: new SecretString('admin-password') });
    const key = new SecretString(Buffer.alloc(32, 7).toString('base64'));
    await vaults.get('pending').secrets.set('sealing-key', { value: key });
  }

  /** Handles messages until the queue is empty; a killed process leaves its message to be delivered again. */
  async function drain(process: Mortal): Promise<void> {
    for (let message = rotations.take(); message; message = rotations.take()) {
      try {
        await handleRotation(process.services, parseRotationMessage(message));
      } catch (error) {
        await rotations.send(message);
        throw error;
      }
    }
  }

  /** Lets time pass and sweeps until nothing is active: what any number of restarts would do. */
  async function converge(process: Mortal = start()): Promise<void> {
    for (let round = 0; round < 400; round++) {
      await drain(process);
      const active = await activeRows();
      if (active.length === 0) return;
      now = Math.max(now + 601_000, await nextDue(active));
      await sweep(process.services);
    }
    throw new Error('the world does not converge');
  }

  /** When the first of them goes on; a wait for the grace period need not be waited in steps. */
  async function nextDue(active: readonly string[]): Promise<number> {
    const due = (await journals())
      .filter((journal) => active.includes(`active:rotation:${journal.id}`))
      .map((journal) => Date.parse(journal.resumeAt ?? '') || 0);
    return Math.min(...due);
  }

  async function activeRows(): Promise<string[]> {
    const found: string[] = [];
    for (const shard of shards) {
      for await (const row of listAll(store, shard, 'active:rotation:')) found.push(row.id);
    }
    return found;
  }

  async function journals(): Promise<Journal[]> {
    const found: Journal[] = [];
    for (const shard of shards) {
      for await (const row of listAll(store, shard, journalPrefix))
        found.push(parseJournal(row.body));
    }
    return found;
  }

  async function latest() {
    return vaults.get('main').secrets.get('orders-db');
  }

  async function latestCredential(): Promise<Credential> {
    const shape = shapeOf(overlap);
    const credential = parseValue(shape as never, (await latest()).value);
    return { ...credential, username: credential.username ?? 'app' };
  }

  async function latestLogsIn(): Promise<boolean> {
    const { username, password } = await latestCredential();
    return server.logins.get(username ?? '') === password.expose();
  }

  return {
    ...{ clock, store, rotations, notifications, vaults, server, lines, log, documents },
    ...{
      start,
      seed,
      drain,
      converge,
      journals,
      latest,
      latestLogsIn,
      latestCredential,
      activeRows,
    },
    pass: (seconds: number) => {
      now += seconds * 1000;
    },
    request: (
      process: Mortal,
      reason: 'on-demand' | 'near-expiry' = 'on-demand',
      version?: string,
    ) =>
      requestRotation(process.services, orders, {
        reason,
        requestedBy: 'test',
        correlationId: 'c',
        expectedBaseVersion: version ?? null,
      }),
    verifyAudit: () => verifyAudit(log),
    isSettled: async () => (await journals()).every((journal) => isEnd(journal.state)),
  };
}

function shapeOf(overlap: Overlap) {
  return overlap === 'users'
    ? { shape: 'json', template: { username: '{{username}}', password: '{{password}}' } }
    : { shape: 'raw' };
}

function documentsFor(
  overlap: Overlap,
  options: {
    readonly consumers?: readonly unknown[];
    readonly policy?: object;
    readonly handler?: string;
  },
) {
  const policy = {
    id: 'orders',
    covers: [{ vault: 'main', type: 'secret', name: 'orders-*' }],
    handler: options.handler ?? 'fake',
    ...(options.handler === 'generated' ? {} : { target: 'orders' }),
    schedule: { validFor: 'P90D', leadTime: 'P30D' },
    grace: 'P1D',
    value: shapeOf(overlap),
    consumers: options.consumers ?? [],
    ...options.policy,
  };
  const target = {
    id: 'orders',
    handler: 'fake',
    objects: [{ vault: 'main', type: 'secret', name: 'orders-db' }],
    admin: { vault: 'main', name: 'db-admin', username: 'admin' },
    settings: { overlap },
  };
  return {
    policies: [{ where: 'orders.json', body: policy }],
    targets: [{ where: 'target.json', body: target }],
  };
}

type Gate = <T>(what: string, run: () => Promise<T>) => Promise<T>;

function fakeHandler(server: FakeServer, clock: Clock, gate: Gate): AnyHandler {
  /** One call; past `deadline` the server itself refuses it, as PostgreSQL does. */
  const at = (verb: string, login: string, run: () => void, deadline = Number.POSITIVE_INFINITY) =>
    gate(`target.${verb}`, async () => {
      server.fault?.(verb, login);
      if (clock.now().getTime() >= deadline) {
        throw new AppError('lease_lost', { detail: 'the fake server refuses what comes late' });
      }
      run();
      server.faultAfter?.(verb, login);
    });
  const nameOf = (username: string | null) => username ?? 'app';
  const set = async (verb: string, { username, password }: Credential, fence: Fence) => {
    const deadline = (await fence.hold()) + clock.now().getTime();
    fence.guard();
    const run = () => void server.logins.set(nameOf(username), password.expose());
    await at(verb, nameOf(username), run, deadline);
  };
  return defineHandler<{ overlap: Overlap }>({
    id: 'fake',
    credentialClass: 'chosen',
    targetSettings: z.object({ overlap: z.enum(['none', 'users']) }),
    check: () => [],
    overlap: (settings) => settings.overlap,
    resources: () => ['fake/server'],
    nextLogin: ({ overlap }, current) => {
      if (overlap === 'none') return 'app';
      return current === 'app_a' ? 'app_b' : 'app_a';
    },
    preflight: async (context) => {
      await context.admin();
      await at('preflight', '', () => undefined);
    },
    apply: async (context, candidate, fence) => {
      await context.admin();
      await set('apply', candidate, fence);
    },
    verify: (_context, { username, password }) =>
      gate('target.verify', async () => {
        server.fault?.('verify', nameOf(username));
        return server.logins.get(nameOf(username)) === password.expose();
      }),
    retire: (_context, login, fence) =>
      set('retire', { username: login, password: new SecretString('retired') }, fence),
    restore: (_context, base, fence) => set('restore', base, fence),
  });
}

/** `port` with every call, and every page of a list, passing the gate. */
function gated<T extends object>(name: string, port: T, gate: Gate): T {
  return new Proxy(port, {
    get(target, key) {
      const member = Reflect.get(target, key);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        const call = () => member.apply(target, args);
        const what = `${name}.${String(key)}`;
        if (key === 'list' && 'append' in target) return call();
        if (key === 'listVersions' || (key === 'list' && 'erase' in target)) {
          return gatedIterable(what, call, gate);
        }
        return gate(what, call);
      };
    },
  });
}

async function* gatedIterable(what: string, open: () => AsyncIterable<unknown>, gate: Gate) {
  const items = await gate(what, () => Array.fromAsync(open()));
  yield* items;
}

/** What a broken target says. */
export function unreachable(): never {
  throw new AppError('target_unreachable', { detail: 'the fake server is down' });
}

export function refused(): never {
  throw new AppError('target_refused', { detail: 'the fake server says no' });
}
