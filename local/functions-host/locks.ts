import type { BlockBlobClient } from '@azure/storage-blob';

export interface HostLock {
  /** Takes or renews the lock. False when another holder has it; rejects when storage does not answer. */
  hold(): Promise<boolean>;
  /** Whether the lock is ours by our own clock; false after a freeze longer than its term. */
  isHeld(): boolean;
  release(): Promise<void>;
}

/**
 * A lock kept as a blob `{holder, expiresAt}` and changed only under its ETag. Not an Azure blob
 * lease: those last 15 to 60 s or for ever, and tests need shorter terms.
 *
 * The holder counts the term from before its request was sent, everybody else from the time
 * written, so the holder always gives up first. Clocks are one machine's.
 */
export function createLock(blob: BlockBlobClient, holder: string, seconds: number): HostLock {
  let expiresAt = 0;
  let etag: string | null = null;

  const write = async (until: number, condition: { ifMatch: string } | { ifNoneMatch: string }) => {
    const body = JSON.stringify({ holder, expiresAt: new Date(until).toISOString() });
    try {
      const answer = await blob.upload(body, Buffer.byteLength(body), { conditions: condition });
      etag = answer.etag ?? null;
      return true;
    } catch (error) {
      if (isConflict(error)) return false;
      throw error;
    }
  };
  const hold = async (): Promise<boolean> => {
    const until = Date.now() + seconds * 1000;
    const condition = await conditionToTake(blob, { holder, etag });
    const taken = condition !== null && (await write(until, condition));
    if (!taken) etag = null;
    expiresAt = taken ? until : 0;
    return taken;
  };
  return {
    hold,
    isHeld: () => Date.now() < expiresAt,
    async release() {
      const known = etag;
      const wasHeld = Date.now() < expiresAt;
      expiresAt = 0;
      etag = null;
      if (known !== null && wasHeld) await write(Date.now(), { ifMatch: known });
    },
  };
}

async function conditionToTake(
  blob: BlockBlobClient,
  own: { readonly holder: string; readonly etag: string | null },
): Promise<{ ifMatch: string } | { ifNoneMatch: string } | null> {
  // While the ETag is the one we wrote, nobody else has been here.
  if (own.etag !== null) return { ifMatch: own.etag };
  try {
    const found = await blob.download();
    const text = await streamText(found.readableStreamBody);
    const { holder, expiresAt } = parseLock(text);
    const free = holder === own.holder || Date.parse(expiresAt) <= Date.now();
    return free && found.etag !== undefined ? { ifMatch: found.etag } : null;
  } catch (error) {
    if (error instanceof Error && 'statusCode' in error && error.statusCode === 404)
      return { ifNoneMatch: '*' };
    throw error;
  }
}

function parseLock(text: string): { holder: string; expiresAt: string } {
  try {
    // Written by this file only; anything else counts as an expired lock.
    const value = JSON.parse(text) as { holder?: unknown; expiresAt?: unknown };
    if (typeof value.holder === 'string' && typeof value.expiresAt === 'string') {
      return { holder: value.holder, expiresAt: value.expiresAt };
    }
  } catch {}
  return { holder: '', expiresAt: new Date(0).toISOString() };
}

export async function streamText(stream: NodeJS.ReadableStream | undefined): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream ?? []) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

function isConflict(error: unknown): boolean {
  return (
    error instanceof Error &&
    'statusCode' in error &&
    (error.statusCode === 409 || error.statusCode === 412)
  );
}
