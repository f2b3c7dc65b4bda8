import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { AppError, toAppError } from '../../../src/core/errors.ts';
import type { CallHook } from '../../../src/core/simulation/calls.ts';
import { type SimulatedVaults, simulatedVaults } from '../../../src/core/simulation/vault.ts';
import type { AccessLogEntry } from '../../../src/core/vault/access-entry.ts';
import { type AccessLog, createAccessLog } from '../../../src/core/vault/access-log.ts';
import type { BreakerSettings } from '../../../src/core/vault/breaker.ts';
import { weightOf } from '../../../src/core/vault/budget.ts';
import { type CacheSettings, ObjectCache } from '../../../src/core/vault/cache.ts';
import { cachedSecrets } from '../../../src/core/vault/cached.ts';
import { createVaultCaller, type VaultCaller } from '../../../src/core/vault/calls.ts';
import type { Failure } from '../../../src/core/vault/pipeline.ts';
import type { SecretService } from '../../../src/core/vault/ports.ts';

// A service as it runs in production, over a simulated vault: what its access log says is what replays are given.

export interface RecordingOptions {
  readonly instances: readonly string[];
  readonly cache: CacheSettings;
  readonly breaker?: BreakerSettings;
  readonly sink: (line: string) => void;
  readonly clock?: Clock;
}

export interface Recording {
  readonly vaults: SimulatedVaults;
  readonly logs: readonly AccessLog[];
  /** The secrets of the vault `main`, as the instance of this index reads and writes them. */
  secrets(instance: number): SecretService;
  close(): void;
}

/** How the simulated vault answers: at once it decides, and `latencyMs` later the answer is there. */
export function slowVault(latencyMs: number, isDown: () => boolean = () => false): CallHook {
  return async (_, run) => {
    const wasDown = isDown();
    const done = wasDown ? null : await settle(run);
    await new Promise((resolve) => setTimeout(resolve, latencyMs));
    if (wasDown) throw new AppError('vault_unavailable', { detail: 'no answer' });
    if (done !== null && 'error' in done) throw done.error;
  };
}

async function settle(run: () => Promise<void>): Promise<{ error: unknown } | { ok: true }> {
  try {
    await run();
    return { ok: true };
  } catch (error) {
    return { error };
  }
}

export function record(options: RecordingOptions): Recording {
  const { clock = systemClock, sink } = options;
  const vaults = simulatedVaults([{ alias: 'main', purpose: 'main' }], clock);
  const vault = vaults.get('main');
  const opened = options.instances.map((instance) => {
    const log = createAccessLog({ sink, instance, clock, caller: 'orders-api' });
    const elapsed = () => clock.now().getTime();
    const cache = new ObjectCache(options.cache, elapsed);
    const { breaker } = options;
    const caller = createVaultCaller('main', { observer: log.observer, clock: elapsed, breaker });
    const called = calledSecrets(vault.secrets, caller);
    const tools = { vault, cache, observer: log.observer, changed: dropIn(cache) };
    const secrets = cachedSecrets(called, tools);
    return { log, cache, vault: log.logged({ ...vault, secrets }) };
  });
  return {
    vaults,
    logs: opened.map(({ log }) => log),
    secrets: (instance) => opened[instance]!.vault.secrets,
    close: () => {
      for (const { cache } of opened) cache.clear();
    },
  };
}

function dropIn(cache: ObjectCache) {
  return async (objects: readonly string[]) => {
    for (const object of objects) cache.invalidate(object);
  };
}

/** A simulated vault answers for itself, unless it is made to be down. */
function judge(cause: unknown): Failure {
  const error = toAppError(cause, 'call');
  const isDown = error.code === 'vault_unavailable';
  const transient = isDown || error.code === 'vault_throttled';
  return { error, transient, retryAfterMs: null, service: isDown ? 'down' : 'alive' };
}

/** `inner` through the pipeline, as the adapter of the SDK has it. */
function calledSecrets(inner: SecretService, caller: VaultCaller): SecretService {
  const call = <T>(operation: string, object: string, run: () => Promise<T>) =>
    caller.call<T>({
      ...{ operation, object, weight: weightOf(operation) },
      repeatable: operation !== 'setSecret',
      run: () => run(),
      judge,
    });
  return {
    ...inner,
    get: (name, version) => call('getSecret', name, () => inner.get(name, version)),
    set: (name, secret) => call('setSecret', name, () => inner.set(name, secret)),
    delete: (name) => call('deleteSecret', name, () => inner.delete(name)),
    recover: (name) => call('recoverDeletedSecret', name, () => inner.recover(name)),
    purge: (name) => call('purgeDeletedSecret', name, () => inner.purge(name)),
  };
}

/** A line of a log, for tests that need no service to write it. */
export function line(changes: Partial<AccessLogEntry> & { readonly at: string }): string {
  const entry: AccessLogEntry = {
    ...{ instance: 'a', caller: null, vault: 'main', operation: 'getSecret', object: 'orders-db' },
    ...{ version: null, servedVersion: null, outcome: 'ok', ms: 20, cache: 'miss' },
    ...{ requests: 1, throttled: 0 },
    ...changes,
  };
  return JSON.stringify(entry);
}

export async function* linesOf(lines: readonly string[]): AsyncIterable<string> {
  yield* lines;
}
