import type { BlockBlobClient } from '@azure/storage-blob';
import type { LoadedFunction } from './functions.ts';
import type { Invoker } from './invoke.ts';
import { createLock, type HostLock, streamText } from './locks.ts';
import { type Log, messageOf } from './log.ts';
import type { Listener } from './queues.ts';
import type { Schedule } from './schedule.ts';
import type { HostStorage } from './storage.ts';
import { pause } from './time.ts';

export interface TimerDependencies {
  readonly storage: HostStorage;
  readonly invoker: Invoker;
  readonly log: Log;
  readonly lockSeconds: number;
  /** Differs between any two host processes. */
  readonly instanceId: string;
}

interface Timer {
  readonly deps: TimerDependencies;
  readonly fn: LoadedFunction;
  readonly schedule: Schedule;
  readonly runOnStartup: boolean;
  readonly status: BlockBlobClient | null;
  readonly lock: HostLock;
  readonly stopping: AbortSignal;
}

/** What the state blob holds; the member names are the real host's. */
interface Status {
  readonly Last: string;
  readonly Next: string;
  readonly LastUpdated: string;
}

const never = '0001-01-01T00:00:00';

/**
 * Runs one timer function on its schedule while this process holds the timer's lock.
 * Source: azure-webjobs-sdk-extensions, TimerListener and TimerSchedule.
 */
export async function listenToTimer(
  deps: TimerDependencies,
  fn: LoadedFunction,
): Promise<Listener> {
  if (fn.trigger.type !== 'timer') throw new Error(`${fn.name} has no timer trigger`);
  const { schedule, runOnStartup, useMonitor } = fn.trigger;
  const container = await deps.storage.hostContainer();
  const { hostId } = deps.storage;
  const lockBlob = container.getBlockBlobClient(
    `locks/${hostId}/Host.Functions.${fn.name}.Listener`,
  );
  const statusBlob = container.getBlockBlobClient(
    `timers/${hostId}/Host.Functions.${fn.name}/status`,
  );
  const controller = new AbortController();
  const timer: Timer = {
    deps,
    fn,
    schedule,
    runOnStartup,
    status: useMonitor && !schedule.isSubMinute ? statusBlob : null,
    lock: createLock(lockBlob, deps.instanceId, deps.lockSeconds),
    stopping: controller.signal,
  };
  const loops = [keepLock(timer), follow(timer)];
  return {
    async stop() {
      controller.abort();
      await Promise.all(loops);
      await timer.lock.release().catch((error: unknown) => {
        deps.log.warn(`lock of timer ${fn.name} was not released: ${messageOf(error)}`);
      });
    },
  };
}

async function keepLock(timer: Timer): Promise<void> {
  const halfMs = (timer.deps.lockSeconds * 1000) / 2;
  let silent = false;
  while (!timer.stopping.aborted) {
    const held = await timer.lock.hold().then(
      (taken) => {
        silent = false;
        return taken;
      },
      (error: unknown) => {
        if (!silent)
          timer.deps.log.warn(`lock of timer ${timer.fn.name}, still trying: ${messageOf(error)}`);
        silent = true;
        return false;
      },
    );
    await pause(held ? halfMs : Math.min(halfMs, 5000), timer.stopping);
  }
}

async function follow(timer: Timer): Promise<void> {
  let next: Date | null = null;
  let isFirst = true;
  while (!timer.stopping.aborted) {
    if (!timer.lock.isHeld()) {
      next = null;
      await pause(Math.min(250, timer.deps.lockSeconds * 250), timer.stopping);
      continue;
    }
    if (next === null) {
      next = await begin(timer, isFirst);
      isFirst = false;
      continue;
    }
    if (Date.now() >= next.getTime()) next = await fire(timer, next, false);
    // Short naps: after a freeze the lock is looked at before the schedule is.
    else await pause(Math.min(1000, next.getTime() - Date.now()), timer.stopping);
  }
}

/** The first occurrence to wait for, after whatever has to run at once. */
async function begin(timer: Timer, isFirst: boolean): Promise<Date | null> {
  const stored = await readStatus(timer);
  const missed = stored === null ? null : missedOccurrence(timer.schedule, stored);
  if (missed !== null) return fire(timer, missed, true);
  if (timer.runOnStartup && isFirst) return fire(timer, new Date(), false);
  const next = nextAfter(timer, new Date());
  await writeStatus(timer, { Last: stored?.Last ?? never, Next: next.toISOString() });
  return next;
}

function missedOccurrence(schedule: Schedule, status: Status): Date | null {
  const base = new Date(status.Last === never ? status.LastUpdated : status.Last);
  const expected = schedule.next(base);
  const stored = new Date(status.Next);
  // Another `Next` than this schedule gives means that the schedule was changed: nothing was missed.
  const isSame = expected !== null && Math.abs(expected.getTime() - stored.getTime()) < 1000;
  return isSame && stored.getTime() < Date.now() ? stored : null;
}

function nextAfter(timer: Timer, from: Date): Date {
  // A schedule without a further occurrence waits a year and looks again.
  return timer.schedule.next(from) ?? new Date(from.getTime() + 31_536_000_000);
}

async function fire(timer: Timer, due: Date, isPastDue: boolean): Promise<Date> {
  const { fn, deps } = timer;
  const stored = await readStatus(timer);
  const input = {
    Schedule: { AdjustForDST: true },
    ScheduleStatus: stored,
    IsPastDue: isPastDue,
  };
  const startedAt = new Date();
  // A failing run is logged by the invoker and does not stop the schedule.
  await deps.invoker
    .invoke(fn, {
      reason: `Timer fired at ${startedAt.toISOString()}`,
      input: { json: JSON.stringify(input) },
    })
    .catch(() => undefined);
  const last = new Date(Math.max(startedAt.getTime(), isPastDue ? 0 : due.getTime()));
  const next = nextAfter(timer, new Date(Math.max(Date.now(), last.getTime())));
  await writeStatus(timer, {
    Last: last.toISOString(),
    Next: nextAfter(timer, last).toISOString(),
  });
  return next;
}

async function readStatus(timer: Timer): Promise<Status | null> {
  if (timer.status === null) return null;
  try {
    const found = await timer.status.download();
    // Written by writeStatus below, or by the real host in the same shape.
    return JSON.parse(await streamText(found.readableStreamBody)) as Status;
  } catch (error) {
    if (!(error instanceof Error && 'statusCode' in error && error.statusCode === 404)) {
      timer.deps.log.warn(`state of timer ${timer.fn.name} cannot be read: ${messageOf(error)}`);
    }
    return null;
  }
}

async function writeStatus(timer: Timer, status: Omit<Status, 'LastUpdated'>): Promise<void> {
  if (timer.status === null) return;
  const text = JSON.stringify({ ...status, LastUpdated: new Date().toISOString() });
  try {
    await timer.status.upload(text, Buffer.byteLength(text));
  } catch (error) {
    timer.deps.log.warn(`state of timer ${timer.fn.name} cannot be written: ${messageOf(error)}`);
  }
}

/** Runs a timer function now, outside its schedule (the admin endpoint). */
export function invokeTimer(invoker: Invoker, fn: LoadedFunction): Promise<unknown> {
  const input = { Schedule: { AdjustForDST: true }, ScheduleStatus: null, IsPastDue: false };
  return invoker.invoke(fn, {
    reason: 'This function was programmatically called via the host APIs.',
    input: { json: JSON.stringify(input) },
  });
}
