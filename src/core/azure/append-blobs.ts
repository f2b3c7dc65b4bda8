import type { ContainerClient } from '@azure/storage-blob';
import { AppError } from '../errors.ts';
import { checkAppend, checkLogName } from '../storage/limits.ts';
import type { AppendLog } from '../storage/ports.ts';
import type { Limits } from '../vault/pipeline.ts';
import { lacksHome, plainError, storageCaller, storageFailure } from './storage-calls.ts';

interface Append {
  readonly container: ContainerClient;
  readonly name: string;
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly signal: AbortSignal;
}

/** AppendLog on append blobs, one blob a log. */
export function azureLog(connect: () => Promise<ContainerClient>, limits: Limits): AppendLog {
  const call = storageCaller(limits);
  // A whole log comes in one answer, which takes longer than a row.
  const callToRead = storageCaller({ ...limits, perTryMs: limits.perTryMs * 3 });
  return {
    append: async (name, position, bytes) => {
      checkAppend(name, position, bytes);
      const attempted = `append ${name} at ${position}`;
      await call(attempted, async (signal) => {
        const append = { container: await connect(), name, position, bytes, signal };
        try {
          await appendBytes(append);
        } catch (cause) {
          if (!isElsewhere(cause)) throw cause;
          if (!(await standsThere(append)))
            throw new AppError('conflict', { detail: attempted, cause: plainError(cause) });
        }
      });
      return position + bytes.byteLength;
    },
    read: (name) => {
      checkLogName(name);
      const read = async (signal: AbortSignal) => readBytes(await connect(), name, { signal });
      return callToRead(`read ${name}`, read);
    },
    list: async function* (prefix) {
      let cursor: string | undefined;
      do {
        const page = await call(`list ${prefix}`, async (signal) =>
          listPage(await connect(), { prefix, cursor, signal }),
        );
        yield* page.names;
        cursor = page.cursor;
      } while (cursor !== undefined);
    },
  };
}

async function appendBytes(append: Append): Promise<void> {
  const { container, name, position, bytes, signal } = append;
  const blob = container.getAppendBlobClient(name);
  if (position === 0) await create(append);
  await blob.appendBlock(bytes, bytes.byteLength, {
    conditions: { appendPosition: position },
    abortSignal: signal,
  });
}

/** Creates the empty blob, and the container when that is missing; fine when the blob exists. */
async function create({ container, name, signal }: Append): Promise<void> {
  const blob = container.getAppendBlobClient(name);
  const options = { conditions: { ifNoneMatch: '*' }, abortSignal: signal };
  try {
    await blob.create(options);
  } catch (cause) {
    const failure = storageFailure(cause);
    if (failure.code === 'BlobAlreadyExists') return;
    if (!lacksHome(failure)) throw cause;
    await container.createIfNotExists({ abortSignal: signal });
    await blob.create(options);
  }
}

/** True when the log is not as long as the position says, or is not there. */
function isElsewhere(cause: unknown): boolean {
  const { status, code } = storageFailure(cause);
  return status === 412 || status === 404 || code === 'BlobAlreadyExists';
}

/** True when exactly these bytes stand at the position: an earlier try got through. */
async function standsThere(append: Append): Promise<boolean> {
  const { container, name, position, bytes, signal } = append;
  try {
    const range = { signal, position, count: bytes.byteLength };
    return Buffer.from(bytes).equals(await readBytes(container, name, range));
  } catch (cause) {
    const { status } = storageFailure(cause);
    if (status === 404 || status === 416) return false;
    throw cause;
  }
}

async function readBytes(
  container: ContainerClient,
  name: string,
  range: { readonly signal: AbortSignal; readonly position?: number; readonly count?: number },
): Promise<Uint8Array> {
  const answer = await container
    .getBlobClient(name)
    .download(range.position, range.count, { abortSignal: range.signal, maxRetryRequests: 0 });
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.readableStreamBody ?? []) chunks.push(Buffer.from(chunk));
  const bytes = Buffer.concat(chunks);
  if (bytes.byteLength !== answer.contentLength) throw new Error('a log was read in part');
  return bytes;
}

async function listPage(
  container: ContainerClient,
  query: {
    readonly prefix: string;
    readonly cursor: string | undefined;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly names: readonly string[]; readonly cursor: string | undefined }> {
  const { prefix, cursor, signal } = query;
  const settings = {
    maxPageSize: 1000,
    ...(cursor === undefined ? {} : { continuationToken: cursor }),
  };
  try {
    const pages = container.listBlobsFlat({ prefix, abortSignal: signal }).byPage(settings);
    const { value } = await pages.next();
    if (value === undefined) return { names: [], cursor: undefined };
    const names = value.segment.blobItems.map(({ name }: { name: string }) => name);
    return { names, cursor: value.continuationToken || undefined };
  } catch (cause) {
    if (lacksHome(storageFailure(cause))) return { names: [], cursor: undefined };
    throw cause;
  }
}
