/** Real vaults under a log: its reads are done again, and what they answer is dropped at once. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SecretString } from '../secret-string.ts';
import type { Observer } from '../vault/observer.ts';
import type { ObjectType, Vaults } from '../vault/ports.ts';
import type { VaultCallInfo } from '../vault/vault-error.ts';
import { Replay, type ReplayOptions, type ReplayResult } from './replay.ts';
import type { LogFault, LogLine } from './replay-log.ts';
import { readAccessLog } from './replay-log.ts';
import type { ReplaySettings, SplitRule } from './replay-settings.ts';
import type { ReplayCall, ReplayMeter, ReplayTarget } from './replay-target.ts';
import type { ReplayTime } from './virtual-time.ts';

export interface LiveOptions extends ReplayOptions {
  /** How many times faster than it was recorded; the cache's time runs as fast. */
  readonly speed: number;
  /** Whether writes are done too; secrets are set to values of no meaning. */
  readonly allowsWrites: boolean;
  /** Aliases there are vaults for; lines about others are skipped. */
  readonly aliases: readonly string[];
  /** The vaults as one instance calls them: each has its own budget and circuit breakers. */
  readonly open: (observer: Observer) => Vaults;
}

/**
 * The log, run against real vaults, at the speed at which it was recorded or a multiple of it. Versions are not
 * compared: these vaults have their own.
 *
 * @param fault as for `replaySimulated`
 */
export async function replayLive(
  log: AsyncIterable<string>,
  settings: ReplaySettings,
  fault: (fault: LogFault) => void,
  options: LiveOptions,
): Promise<ReplayResult> {
  const target = liveTarget(settings.split, options);
  const replay = new Replay({ target, time: liveTime(options.speed) }, settings, options);
  for await (const line of readAccessLog(log, fault)) await replay.take(line);
  return replay.finish();
}

/** The log's time, which begins with its first line and runs `speed` times as fast as ours. */
function liveTime(speed: number): ReplayTime {
  let base: { readonly log: number; readonly own: number } | null = null;
  const now = () => (base === null ? 0 : base.log + (performance.now() - base.own) * speed);
  return {
    now,
    until: async (instant) => {
      base ??= { log: instant, own: performance.now() };
      const left = (instant - now()) / speed;
      if (left > 0) await sleep(left);
    },
    sleep: (ms) => sleep(ms / speed),
    settled: async () => undefined,
  };
}

function liveTarget(split: readonly SplitRule[], options: LiveOptions): ReplayTarget {
  const { allowsWrites, aliases, open } = options;
  const metered = new AsyncLocalStorage<Metered>();
  const observer = meteringObserver(metered);
  const instances = new Map<string, Vaults>();
  const underway = new Set<Promise<unknown>>();
  const vaultsOf = (instance: string): Vaults => {
    const vaults = instances.get(instance) ?? open(observer);
    instances.set(instance, vaults);
    return vaults;
  };
  return {
    keepsVersions: false,
    observe: () => undefined,
    refuses: ({ entry, operation }) => {
      const { vault, object } = entry;
      const place = split.find(({ fits }) => object !== null && fits(vault, object))?.to ?? vault;
      if (!aliases.includes(place)) return `there is no --vault ${place}=URL`;
      if (operation.effect === 'write' && !allowsWrites) return 'it writes, see --allow-writes';
      return operationOf(operation.type, operation.method) === null
        ? `${operation.name} needs what a log does not hold`
        : null;
    },
    perform: async (call, meter) => {
      const { operation } = call.line;
      const run = operationOf(operation.type, operation.method);
      const doing = metered.run({ call, meter }, async () =>
        run?.(vaultsOf(call.instance).get(call.vault), call.line),
      );
      underway.add(doing);
      try {
        await doing;
      } finally {
        underway.delete(doing);
      }
      return { version: null };
    },
    finish: async () => void (await Promise.allSettled(underway)),
  };
}

interface Metered {
  readonly call: ReplayCall;
  readonly meter: ReplayMeter;
}

/** Counts the tries of every call towards the operation it is made for. */
function meteringObserver(metered: AsyncLocalStorage<Metered>): Observer {
  const throttled = ({ call, meter }: Metered) => meter.throttled(call);
  const retried = new WeakMap<VaultCallInfo, number>();
  return {
    callStarted: (info) => {
      const context = metered.getStore();
      return {
        ended: ({ attempts, outcome }) => {
          if (context === undefined) return;
          for (let sent = 0; sent < attempts; sent++) context.meter.requested(context.call);
          const isLast = attempts > (retried.get(info) ?? 0);
          if (outcome === 'vault_throttled' && isLast) throttled(context);
        },
      };
    },
    retrying: (info, { code }) => {
      retried.set(info, (retried.get(info) ?? 0) + 1);
      const context = metered.getStore();
      if (code === 'vault_throttled' && context !== undefined) throttled(context);
    },
  };
}

type Vault = ReturnType<Vaults['get']>;
type Run = (vault: Vault, line: LogLine) => Promise<unknown>;

/** Null for what needs an input. */
function operationOf(type: ObjectType, method: string): Run | null {
  return reads[method] ?? ownWrites[type][method] ?? lifecycle[method] ?? null;
}

const drain = async (items: AsyncIterable<unknown>) => {
  for await (const _ of items);
};
const nameOf = ({ entry }: LogLine) => entry.object ?? '';
const versionOf = ({ entry }: LogLine) => entry.version ?? undefined;

function serviceOf(vault: Vault, { operation }: LogLine) {
  switch (operation.type) {
    case 'secret':
      return vault.secrets;
    case 'key':
      return vault.keys;
    case 'certificate':
      return vault.certificates;
  }
}

const reads: Readonly<Record<string, Run>> = {
  get: (vault, line) => serviceOf(vault, line).get(nameOf(line), versionOf(line)),
  list: (vault, line) => drain(serviceOf(vault, line).list()),
  listVersions: (vault, line) => drain(serviceOf(vault, line).listVersions(nameOf(line))),
  getDeleted: (vault, line) => serviceOf(vault, line).getDeleted(nameOf(line)),
  listDeleted: (vault, line) => drain(serviceOf(vault, line).listDeleted()),
  getPolicy: (vault, line) => vault.certificates.getPolicy(nameOf(line)),
  getRotationPolicy: (vault, line) => vault.keys.getRotationPolicy(nameOf(line)),
};

const lifecycle: Readonly<Record<string, Run>> = {
  delete: (vault, line) => serviceOf(vault, line).delete(nameOf(line)),
  recover: (vault, line) => serviceOf(vault, line).recover(nameOf(line)),
  purge: (vault, line) => serviceOf(vault, line).purge(nameOf(line)),
};

const ownWrites: Readonly<Record<ObjectType, Readonly<Record<string, Run>>>> = {
  secret: {
    set: (vault, line) =>
      vault.secrets.set(nameOf(line), { value: new SecretString(`replayed-${randomUUID()}`) }),
    erase: (vault, line) => vault.secrets.erase(nameOf(line)),
  },
  key: { rotate: (vault, line) => vault.keys.rotate(nameOf(line)) },
  certificate: {},
};
