/**
 * Writes one line for each operation on a vault: a read that misses the cache and calls the vault is one line, not
 * two, and so is a list of many pages. What the cache reads again in the background has lines of its own.
 *
 * An observer is told how calls and reads of the cache end, but neither versions nor which calls belong together;
 * so the services are wrapped, and what the observer is told on the way is added to the operation under way.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Clock, systemClock } from '../clock.ts';
import { type AccessLogEntry, nameOrNull } from './access-entry.ts';
import { type Begun, type LoggedVault, loggedVault, type Operation } from './logged-services.ts';
import type { CallEnd, Observer, ReadSource } from './observer.ts';
import type { VaultCallInfo } from './vault-error.ts';

export interface AccessLogOptions {
  /** Takes one line, without its end; must not wait. What it throws is counted, see `lost`. */
  readonly sink: (line: string) => void;
  /** This process: each has a cache of its own. */
  readonly instance: string;
  /** On whose behalf, unless `as` says otherwise; 256 characters are kept. */
  readonly caller?: string;
  readonly clock?: Clock;
}

export interface AccessLog {
  /** To be given to whatever calls the vaults and caches their answers. */
  readonly observer: Observer;
  /** `vault`, each of whose operations is written down. It is to lie outside of the cache. */
  logged<V extends LoggedVault>(vault: V): V;
  /** Runs `work`; all it asks of vaults is asked on behalf of `caller`. */
  as<T>(caller: string, work: () => T): T;
  /** Lines that the sink did not take. */
  lost(): number;
}

const maxCaller = 256;

/** Calls that ended within an operation, or were begun in it. */
interface Called {
  requests: number;
  throttled: number;
}

interface EndedCall extends Called {
  readonly info: VaultCallInfo;
  readonly at: Date;
  readonly end: CallEnd;
}

/** An operation under way. */
interface Access {
  readonly version: string | null;
  source: ReadSource | null;
  readonly calls: EndedCall[];
  isOver: boolean;
}

interface Context {
  readonly caller: string | null;
  readonly access: Access | null;
}

type Ended = Pick<AccessLogEntry, 'servedVersion' | 'outcome' | 'ms' | 'cache'> & Called;

export function createAccessLog(options: AccessLogOptions): AccessLog {
  const { instance, clock = systemClock } = options;
  const contexts = new AsyncLocalStorage<Context>();
  const context = (): Context =>
    contexts.getStore() ?? { caller: options.caller ?? null, access: null };
  let lost = 0;

  function write(at: Date, caller: string | null, begun: Begun, ended: Ended): void {
    const { vault, operation, object, version } = begun;
    const { servedVersion, outcome, ms, cache, requests, throttled } = ended;
    const entry: AccessLogEntry = {
      ...{ at: at.toISOString(), instance, caller: caller?.slice(0, maxCaller) || null },
      ...{ vault, operation, object, version },
      ...{ servedVersion, outcome, ms: Math.round(ms * 1000) / 1000, cache, requests, throttled },
    };
    try {
      options.sink(JSON.stringify(entry));
    } catch {
      lost++;
    }
  }

  /** A call that belongs to no operation: the cache's own, or that of a service that is not wrapped. */
  function writeCall({ caller, access }: Context, call: EndedCall): void {
    const { vault, operation, object } = call.info;
    const version = access?.version ?? null;
    const begun = { vault, operation, object: nameOrNull(object), version };
    const { requests, throttled } = call;
    const { outcome, ms } = call.end;
    const cache = access === null ? null : 'refresh';
    write(call.at, caller, begun, { servedVersion: null, outcome, ms, cache, requests, throttled });
  }

  /** Begins an operation. @returns runs parts of its work, and ends it */
  function begin(begun: Begun): Operation {
    const at = clock.now();
    const { caller } = context();
    const access: Access = { version: begun.version, source: null, calls: [], isOver: false };
    const inside: Context = { caller, access };
    let ms = 0;
    return {
      run: async (work) => {
        const start = performance.now();
        try {
          return await contexts.run(inside, work);
        } finally {
          ms += performance.now() - start;
        }
      },
      end: (outcome, object, servedVersion) => {
        access.isOver = true;
        // What answered from the cache has called for nothing but a refresh.
        const isHit = access.source === 'hit' || access.source === 'negative';
        const called = isHit ? { requests: 0, throttled: 0 } : sum(access.calls);
        const ended = { servedVersion, outcome, ms, cache: access.source, ...called };
        write(at, caller, { ...begun, object: begun.object ?? object }, ended);
        if (isHit) for (const call of access.calls) writeCall(inside, call);
      },
    };
  }

  return {
    observer: observerOf(context, clock, writeCall),
    logged: (vault) =>
      loggedVault(vault, { begin, isEnclosed: () => context().access?.isOver === false }),
    as: (caller, work) => contexts.run({ ...context(), caller }, work),
    lost: () => lost,
  };
}

function sum(calls: readonly EndedCall[]): Called {
  const total = { requests: 0, throttled: 0 };
  for (const { requests, throttled } of calls) {
    total.requests += requests;
    total.throttled += throttled;
  }
  return total;
}

function observerOf(
  context: () => Context,
  clock: Clock,
  writeCall: (context: Context, call: EndedCall) => void,
): Observer {
  const tries = new WeakMap<VaultCallInfo, { retried: number; throttled: number }>();
  return {
    callStarted: (info) => {
      const inside = context();
      const at = clock.now();
      const counted = { retried: 0, throttled: 0 };
      tries.set(info, counted);
      return {
        ended: (end) => {
          // A last try that was refused here, and not by the vault, was never sent.
          const isLast = end.outcome === 'vault_throttled' && end.attempts > counted.retried;
          const throttled = counted.throttled + (isLast ? 1 : 0);
          const call = { info, at, end, requests: end.attempts, throttled };
          if (inside.access === null || inside.access.isOver) writeCall(inside, call);
          else inside.access.calls.push(call);
        },
      };
    },
    retrying: (info, { code }) => {
      const counted = tries.get(info);
      if (counted === undefined) return;
      counted.retried++;
      if (code === 'vault_throttled') counted.throttled++;
    },
    readEnded: (_, { source }) => {
      const { access } = context();
      if (access !== null) access.source = source;
    },
  };
}
