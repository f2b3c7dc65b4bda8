import type { DequeuedMessageItem, QueueClient } from '@azure/storage-queue';
import type { LoadedFunction } from './functions.ts';
import type { QueueSettings } from './host-json.ts';
import type { Invoker } from './invoke.ts';
import { type Log, messageOf } from './log.ts';
import type { HostStorage } from './storage.ts';
import { pause } from './time.ts';
import type { RpcTypedData } from './worker/protocol.ts';

export interface Listener {
  /** Takes no new work from now on; resolves when the work already taken has ended. */
  stop(): Promise<void>;
}

export interface QueueDependencies {
  readonly storage: HostStorage;
  readonly invoker: Invoker;
  readonly log: Log;
  readonly settings: QueueSettings;
  readonly lockSeconds: number;
}

interface Worker extends QueueDependencies {
  readonly fn: LoadedFunction;
  readonly queueName: string;
  readonly polling: QueueClient;
  readonly renewing: QueueClient;
  readonly queue: QueueClient;
  /** `null` for a queue that is itself a poison queue. */
  readonly poison: QueueClient | null;
  readonly running: Set<Promise<void>>;
  readonly stopping: AbortSignal;
}

const shortestPollMs = 100;

/** Listens to the queue of one function. Source: azure-sdk-for-net, QueueListener and QueueProcessor. */
export function listenToQueue(deps: QueueDependencies, fn: LoadedFunction): Listener {
  if (fn.trigger.type !== 'queue') throw new Error(`${fn.name} has no queue trigger`);
  const { queueName, connection } = fn.trigger;
  const open = (traffic: 'poll' | 'renewal' | 'work', name = queueName) =>
    deps.storage.queues(connection, traffic).getQueueClient(name);
  const poisonName = `${queueName}-poison`;
  const hasPoison = !queueName.endsWith('-poison') && poisonName.length <= 63;
  const controller = new AbortController();
  const worker: Worker = {
    ...deps,
    fn,
    queueName,
    polling: open('poll'),
    renewing: open('renewal'),
    queue: open('work'),
    poison: hasPoison ? open('work', poisonName) : null,
    running: new Set(),
    stopping: controller.signal,
  };
  const loop = listen(worker);
  return {
    async stop() {
      controller.abort();
      await loop;
      await Promise.allSettled(worker.running);
    },
  };
}

async function listen(worker: Worker): Promise<void> {
  let idlePolls = 0;
  const aborted = untilAborted(worker.stopping);
  while (!worker.stopping.aborted) {
    if (worker.running.size > worker.settings.newBatchThreshold) {
      await Promise.race([...worker.running, aborted]);
      continue;
    }
    const messages = await receive(worker);
    for (const message of messages) track(worker, message);
    idlePolls = messages.length > 0 ? 0 : idlePolls + 1;
    if (idlePolls > 0)
      await pause(backOffMs(idlePolls, worker.settings.maxPollingIntervalMs), worker.stopping);
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function backOffMs(idlePolls: number, mostMs: number): number {
  const spread = 0.8 + Math.random() * 0.4;
  return Math.min(mostMs, shortestPollMs * 2 ** Math.min(idlePolls - 1, 20) * spread);
}

const reported = new WeakSet<QueueClient>();

async function receive(worker: Worker): Promise<readonly DequeuedMessageItem[]> {
  try {
    const { receivedMessageItems } = await worker.polling.receiveMessages({
      numberOfMessages: worker.settings.batchSize,
      visibilityTimeout: Math.ceil(worker.lockSeconds),
    });
    reported.delete(worker.polling);
    return receivedMessageItems;
  } catch (error) {
    // A queue that does not exist yet is awaited, not reported.
    if (!isStatus(error, 404) && !reported.has(worker.polling)) {
      reported.add(worker.polling);
      worker.log.warn(
        `queue "${worker.queueName}" cannot be read, still trying: ${messageOf(error)}`,
      );
    }
    return [];
  }
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof Error && 'statusCode' in error && error.statusCode === status;
}

function track(worker: Worker, message: DequeuedMessageItem): void {
  const run = (worker.stopping.aborted ? giveBack(worker, message) : handle(worker, message))
    .catch((error: unknown) => {
      worker.log.error(
        `queue "${worker.queueName}", message ${message.messageId}: ${messageOf(error)}`,
      );
    })
    .finally(() => worker.running.delete(run));
  worker.running.add(run);
}

// Received while stopping: nobody will run it here, so it need not wait for the lock to end.
async function giveBack(worker: Worker, message: DequeuedMessageItem): Promise<void> {
  await worker.queue.updateMessage(message.messageId, message.popReceipt, undefined, 0);
}

async function handle(worker: Worker, message: DequeuedMessageItem): Promise<void> {
  const { settings } = worker;
  const text = decode(message.messageText, settings.messageEncoding);
  if (text === null) {
    worker.log.error(`queue "${worker.queueName}": message ${message.messageId} is not base64`);
    return toPoison(worker, message, message.popReceipt);
  }
  if (message.dequeueCount > settings.maxDequeueCount)
    return toPoison(worker, message, message.popReceipt);
  const lock = holdLock(worker, message);
  const failed = await worker.invoker
    .invoke(worker.fn, {
      reason: `New queue message detected on '${worker.queueName}'.`,
      input: { string: text },
      triggerMetadata: queueMetadata(message, text),
    })
    .then(
      () => false,
      () => true,
    );
  const popReceipt = await lock.release();
  if (!failed) await worker.queue.deleteMessage(message.messageId, popReceipt);
  else if (message.dequeueCount >= settings.maxDequeueCount)
    await toPoison(worker, message, popReceipt);
  else {
    const seconds = Math.round(settings.visibilityTimeoutMs / 1000);
    await worker.queue.updateMessage(message.messageId, popReceipt, undefined, seconds);
  }
}

function decode(text: string, encoding: 'base64' | 'none'): string | null {
  if (encoding === 'none') return text;
  const compact = text.replaceAll(/\s/g, '');
  if (compact.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(compact)) return null;
  return Buffer.from(compact, 'base64').toString('utf8');
}

/** Renews the message's invisibility at half time; `release` gives the pop receipt to finish with. */
function holdLock(worker: Worker, message: DequeuedMessageItem): { release(): Promise<string> } {
  const released = new AbortController();
  let popReceipt = message.popReceipt;
  const halfMs = (worker.lockSeconds * 1000) / 2;
  let waitMs = halfMs;
  const loop = (async () => {
    for (;;) {
      await pause(waitMs, released.signal);
      if (released.signal.aborted) return;
      try {
        const seconds = Math.ceil(worker.lockSeconds);
        const renewed = await worker.renewing.updateMessage(
          message.messageId,
          popReceipt,
          undefined,
          seconds,
        );
        popReceipt = renewed.popReceipt ?? popReceipt;
        waitMs = halfMs;
      } catch (error) {
        // Half of the lock is left: several more tries fit into it.
        waitMs = halfMs / 4;
        worker.log.warn(
          `queue "${worker.queueName}": the lock of message ${message.messageId} was not renewed: ${messageOf(error)}`,
        );
      }
    }
  })();
  return {
    async release() {
      released.abort();
      await loop;
      return popReceipt;
    },
  };
}

async function toPoison(
  worker: Worker,
  message: DequeuedMessageItem,
  popReceipt: string,
): Promise<void> {
  if (worker.poison === null) {
    worker.log.warn(
      `queue "${worker.queueName}" has no poison queue: message ${message.messageId} stays (attempt ${message.dequeueCount})`,
    );
    return;
  }
  const { maxDequeueCount } = worker.settings;
  worker.log.warn(
    `Message has reached MaxDequeueCount of ${maxDequeueCount}. Moving message ${message.messageId} to queue '${worker.poison.name}'.`,
  );
  await worker.poison.createIfNotExists();
  await worker.poison.sendMessage(message.messageText);
  await worker.queue.deleteMessage(message.messageId, popReceipt);
}

function queueMetadata(message: DequeuedMessageItem, text: string): Record<string, RpcTypedData> {
  const date = (value: Date): RpcTypedData => ({ json: JSON.stringify(value.toISOString()) });
  const metadata: Record<string, RpcTypedData> = {
    QueueTrigger: { string: text },
    DequeueCount: { int: message.dequeueCount },
    ExpirationTime: date(message.expiresOn),
    Id: { string: message.messageId },
    InsertionTime: date(message.insertedOn),
    NextVisibleTime: date(message.nextVisibleOn),
    PopReceipt: { string: message.popReceipt },
  };
  for (const [name, value] of Object.entries(parseObject(text))) {
    if (Array.isArray(value) || value === null) continue;
    const hidden = Object.keys(metadata).find((key) => key.toLowerCase() === name.toLowerCase());
    if (hidden !== undefined) delete metadata[hidden];
    metadata[name] =
      typeof value === 'string' ? { string: value } : { json: JSON.stringify(value) };
  }
  return metadata;
}

function parseObject(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}

/** Runs a queue function with a given message text, outside any queue (the admin endpoint). */
export function invokeWithText(
  invoker: Invoker,
  fn: LoadedFunction,
  text: string,
): Promise<unknown> {
  return invoker.invoke(fn, {
    reason: 'This function was programmatically called via the host APIs.',
    input: { string: text },
    triggerMetadata: { QueueTrigger: { string: text } },
  });
}
