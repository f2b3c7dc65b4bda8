import { randomUUID } from 'node:crypto';
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import type { DeadLetter, SubscriptionOptions } from './subscription.ts';

/** Where the events one subscription gave up are kept. */
export interface DeadLetters {
  add(record: DeadLetter): void;
  /** Writes at once what still waits to be written. */
  close(): Promise<void>;
}

interface DeadLetterOptions {
  /** Each record is appended at once to `dead-letters.jsonl` in this folder, too. */
  readonly dir: string | undefined;
  readonly timeScale: number;
}

// As Azure: together after five minutes; while storage is away tried again for four hours.
const gatherMs = 5 * 60_000;
const retryMs = 60_000;
const giveUpMs = 4 * 3_600_000;

/** @throws Error when the subscription's container cannot be opened */
export async function openDeadLetters(
  subscription: SubscriptionOptions,
  options: DeadLetterOptions,
): Promise<DeadLetters> {
  const writer = await openWriter(subscription, options.timeScale);
  return {
    add(record) {
      keepInFile(options.dir, subscription.name, record);
      subscription.deadLetter?.(record);
      writer?.add(record);
    },
    close: async () => writer?.close(),
  };
}

function keepInFile(dir: string | undefined, subscription: string, record: DeadLetter): void {
  if (dir === undefined) return;
  mkdirSync(dir, { recursive: true });
  appendFileSync(join(dir, 'dead-letters.jsonl'), `${JSON.stringify({ subscription, record })}\n`);
}

async function openWriter(
  { name, deadLetterContainer: where }: SubscriptionOptions,
  timeScale: number,
): Promise<DeadLetters | null> {
  if (where === undefined) return null;
  const service = BlobServiceClient.fromConnectionString(where.connectionString, {
    retryOptions: { maxTries: 1 },
  });
  const container = service.getContainerClient(where.name);
  await container.createIfNotExists();
  let gathered: DeadLetter[] = [];
  let writing: Promise<void> = Promise.resolve();
  const closing = new AbortController();
  const pause = (ms: number) =>
    delay(ms * timeScale, undefined, { signal: closing.signal }).catch(() => undefined);

  const write = async () => {
    await pause(gatherMs);
    const records = gathered;
    gathered = [];
    const triesEnd = Date.now() + giveUpMs * timeScale;
    while (!(await isWritten(container, name, records))) {
      if (Date.now() >= triesEnd || closing.signal.aborted) {
        process.emitWarning(`Event Grid: ${records.length} dead letters of ${name} are lost`);
        return;
      }
      await pause(retryMs);
    }
  };
  return {
    add(record) {
      gathered.push(record);
      if (gathered.length === 1) writing = Promise.all([writing, write()]).then(() => undefined);
    },
    async close() {
      closing.abort();
      await writing;
    },
  };
}

async function isWritten(
  container: ContainerClient,
  subscription: string,
  records: readonly DeadLetter[],
): Promise<boolean> {
  const text = JSON.stringify(records);
  const blob = container.getBlockBlobClient(blobName(subscription, new Date()));
  try {
    await blob.upload(text, Buffer.byteLength(text), {
      blobHTTPHeaders: { blobContentType: 'application/json' },
    });
    return true;
  } catch {
    return false;
  }
}

// Year, month, day and hour without leading zeros, as Azure writes them.
function blobName(subscription: string, now: Date): string {
  const hour = [now.getUTCFullYear(), now.getUTCMonth() + 1, now.getUTCDate(), now.getUTCHours()];
  return `${subscription.toUpperCase()}/${hour.join('/')}/${randomUUID()}.json`;
}
