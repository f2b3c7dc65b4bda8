/**
 * DocumentStore on Azure Tables: one table, one entity a document.
 *
 * Columns: `b0`, `b1`, … hold the body's JSON in pieces; `w` is a random id of the write. A write
 * whose answer was lost is tried again under its condition; when that fails, `w` tells whether
 * somebody else won or our first try did.
 */
import { randomUUID } from 'node:crypto';
import type { TableClient, TableEntity, TransactionAction } from '@azure/data-tables';
import { AppError } from '../errors.ts';
import { afterPrefix, decodeKey, encodeKey, encodePrefix, parseCursor } from '../storage/keys.ts';
import { bodyText, checkTransaction, pageSize } from '../storage/limits.ts';
import type {
  Condition,
  DocumentPage,
  DocumentStore,
  DocumentWrite,
  StoredDocument,
} from '../storage/ports.ts';
import type { Limits } from '../vault/pipeline.ts';
import {
  lacksHome,
  plainError,
  type StorageCaller,
  storageCaller,
  storageFailure,
} from './storage-calls.ts';
import { withDeleteConditions } from './table-batches.ts';

type Columns = Record<string, unknown>;
type Put = Extract<DocumentWrite, { kind: 'put' }>;

/** A string column holds 32,768 UTF-16 units. */
const pieceLength = 30_000;

export function azureDocuments(connect: () => Promise<TableClient>, limits: Limits): DocumentStore {
  const call = storageCaller(limits);
  return {
    get: (partition, id) => {
      const [partitionKey, rowKey] = [encodeKey(partition), encodeKey(id)];
      return call(`get ${partition}/${id}`, async (abortSignal) => {
        const table = await connect();
        const row = await unlessMissing(table.getEntity(partitionKey, rowKey, { abortSignal }));
        return row === null ? null : documentOf(row);
      });
    },
    put: (partition, id, body, when) => {
      const write = { kind: 'put', id, body, when } as const;
      const entity = entityOf(encodeKey(partition), write, randomUUID());
      return call(`put ${partition}/${id}`, async (signal, attempt) => {
        const table = await connect();
        try {
          return await withTable(table, signal, () => putEntity(table, entity, when, signal));
        } catch (cause) {
          return await recognise({ table, entity, attempt, cause, signal });
        }
      });
    },
    delete: (partition, id, when) => {
      const [partitionKey, rowKey] = [encodeKey(partition), encodeKey(id)];
      const etag = when === 'any' ? '*' : when.etag;
      return call(`delete ${partition}/${id}`, async (abortSignal) => {
        const table = await connect();
        await unlessMissing(table.deleteEntity(partitionKey, rowKey, { etag, abortSignal }));
      });
    },
    list: (partition, query = {}) => {
      const filter = filterOf(encodeKey(partition), query.prefix ?? '', query.cursor ?? null);
      const limit = pageSize(query.limit);
      return call(`list ${partition}/${query.prefix ?? ''}`, async (signal) =>
        listPage(await connect(), { filter, limit, signal }),
      );
    },
    transact: (partition, writes) => transact(connect, call, partition, writes),
  };
}

function putEntity(
  table: TableClient,
  entity: TableEntity<Columns>,
  when: Condition,
  abortSignal: AbortSignal,
): Promise<string> {
  const answer =
    when === 'absent'
      ? table.createEntity(entity, { abortSignal })
      : when === 'any'
        ? table.upsertEntity(entity, 'Replace', { abortSignal })
        : table.updateEntity(entity, 'Replace', { etag: when.etag, abortSignal });
  return answer.then(({ etag }) => known(etag));
}

/** The ETag when the refused write stands there already; throws `conflict` when another's does. */
async function recognise(refused: {
  readonly table: TableClient;
  readonly entity: TableEntity<Columns>;
  readonly attempt: number;
  readonly cause: unknown;
  readonly signal: AbortSignal;
}): Promise<string> {
  const { table, entity, cause } = refused;
  if (!isRefusal(cause)) throw cause;
  const etag = refused.attempt > 1 ? await etagOfWrite(table, entity, refused.signal) : null;
  if (etag === null) throw conflict(cause);
  return etag;
}

async function etagOfWrite(
  table: TableClient,
  entity: TableEntity<Columns>,
  abortSignal: AbortSignal,
): Promise<string | null> {
  const { partitionKey, rowKey } = entity;
  const row = await unlessMissing(
    table.getEntity<Columns>(partitionKey, rowKey, {
      abortSignal,
      queryOptions: { select: ['w'] },
    }),
  );
  return row !== null && row['w'] === entity['w'] ? row.etag : null;
}

async function transact(
  connect: () => Promise<TableClient>,
  call: StorageCaller,
  partition: string,
  writes: readonly DocumentWrite[],
): Promise<readonly (string | null)[]> {
  checkTransaction(writes);
  const batch = { partitionKey: encodeKey(partition), writeId: randomUUID(), writes };
  for (const { id } of writes) encodeKey(id);
  return call(`transact ${partition}`, async (signal, attempt) => {
    const table = await connect();
    try {
      return await withTable(table, signal, () => submit(table, batch, signal));
    } catch (cause) {
      if (!isRefusal(cause)) throw cause;
      const etags = attempt > 1 ? await etagsOfBatch(table, batch, signal) : null;
      if (etags !== null) return etags;
      return await submitWithoutAbsent(table, batch, { cause, signal });
    }
  });
}

interface Batch {
  readonly partitionKey: string;
  readonly writeId: string;
  readonly writes: readonly DocumentWrite[];
}

async function submit(
  table: TableClient,
  batch: Batch,
  abortSignal: AbortSignal,
): Promise<readonly (string | null)[]> {
  const actions = batch.writes.map((write) => actionOf(batch, write));
  const { subResponses } = await withDeleteConditions(deleteConditions(batch.writes), () =>
    table.submitTransaction(actions, { abortSignal }),
  );
  const whole = subResponses.length === actions.length;
  if (!whole || subResponses.some(({ status }) => status >= 300)) {
    throw new Error(`a transaction of ${actions.length} answered ${subResponses.length} parts`);
  }
  return batch.writes.map((write, at) =>
    write.kind === 'put' ? known(subResponses[at]?.etag?.trim()) : null,
  );
}

/**
 * Azure refuses a whole batch when a row to delete is absent; to us it is deleted already. Tries
 * once more without such rows; throws `conflict` when there are none.
 */
async function submitWithoutAbsent(
  table: TableClient,
  batch: Batch,
  refused: { readonly cause: unknown; readonly signal: AbortSignal },
): Promise<readonly (string | null)[]> {
  const { cause, signal } = refused;
  if (storageFailure(cause).status !== 404) throw conflict(cause);
  const kept: DocumentWrite[] = [];
  for (const write of batch.writes) {
    const doomed = write.kind === 'delete' && write.when === 'any';
    if (!doomed || (await exists(table, batch, { id: write.id, signal }))) kept.push(write);
  }
  if (kept.length === batch.writes.length) throw conflict(cause);
  const etags =
    kept.length === 0 ? [] : await submit(table, { ...batch, writes: kept }, signal).catch(rethrow);
  return batch.writes.map((write) => etags[kept.indexOf(write)] ?? null);
}

function rethrow(cause: unknown): never {
  throw isRefusal(cause) ? conflict(cause) : cause;
}

async function exists(
  table: TableClient,
  batch: Batch,
  row: { readonly id: string; readonly signal: AbortSignal },
): Promise<boolean> {
  const found = await unlessMissing(
    table.getEntity(batch.partitionKey, encodeKey(row.id), {
      abortSignal: row.signal,
      queryOptions: { select: ['w'] },
    }),
  );
  return found !== null;
}

/** The ETags of a batch that is committed already; null when it is not. A batch is never half there. */
async function etagsOfBatch(
  table: TableClient,
  batch: Batch,
  signal: AbortSignal,
): Promise<readonly (string | null)[] | null> {
  const etags: (string | null)[] = [];
  for (const write of batch.writes) {
    const etag =
      write.kind === 'put'
        ? await etagOfWrite(table, entityOf(batch.partitionKey, write, batch.writeId), signal)
        : null;
    if (write.kind === 'put' && etag === null) return null;
    if (write.kind === 'delete' && (await exists(table, batch, { id: write.id, signal }))) {
      return null;
    }
    etags.push(etag);
  }
  return etags;
}

function actionOf(batch: Batch, write: DocumentWrite): TransactionAction {
  if (write.kind === 'delete') {
    return ['delete', { partitionKey: batch.partitionKey, rowKey: encodeKey(write.id) }];
  }
  const entity = entityOf(batch.partitionKey, write, batch.writeId);
  if (write.when === 'absent') return ['create', entity];
  if (write.when === 'any') return ['upsert', entity, 'Replace'];
  return ['update', entity, 'Replace', { etag: write.when.etag }];
}

function deleteConditions(writes: readonly DocumentWrite[]): ReadonlyMap<string, string> {
  const etags = new Map<string, string>();
  for (const write of writes) {
    if (write.kind === 'delete' && write.when !== 'any') {
      etags.set(encodeKey(write.id), write.when.etag);
    }
  }
  return etags;
}

async function listPage(
  table: TableClient,
  query: { readonly filter: string; readonly limit: number; readonly signal: AbortSignal },
): Promise<DocumentPage> {
  const { filter, limit, signal } = query;
  const pages = table
    .listEntities<Columns>({ queryOptions: { filter }, abortSignal: signal })
    .byPage({ maxPageSize: limit });
  const documents: StoredDocument[] = [];
  let more = false;
  try {
    for await (const page of pages) {
      documents.push(...page.map(documentOf));
      // The service may stop anywhere, even with an empty page, and then hands a token to go on.
      more = page.continuationToken !== undefined;
      if (documents.length >= limit || !more) break;
    }
  } catch (cause) {
    if (storageFailure(cause).status !== 404) throw cause;
  }
  const last = documents.at(-1);
  return { documents, cursor: more && last ? encodeKey(last.id) : null };
}

/** Keys hold neither quotes nor anything else a filter would take for its own. */
function filterOf(partitionKey: string, prefix: string, cursor: string | null): string {
  const start = encodePrefix(prefix);
  const terms = [`PartitionKey eq '${partitionKey}'`];
  if (start !== '') terms.push(`RowKey ge '${start}'`, `RowKey lt '${afterPrefix(start)}'`);
  if (cursor !== null) terms.push(`RowKey gt '${encodeKey(parseCursor(cursor))}'`);
  return terms.join(' and ');
}

function entityOf(partitionKey: string, put: Put, writeId: string): TableEntity<Columns> {
  const columns: Columns = {};
  for (const [at, piece] of piecesOf(bodyText(put.body)).entries()) columns[`b${at}`] = piece;
  return { partitionKey, rowKey: encodeKey(put.id), w: writeId, ...columns };
}

function piecesOf(text: string): readonly string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += pieceLength)
    pieces.push(text.slice(at, at + pieceLength));
  return pieces;
}

function documentOf(row: Columns): StoredDocument {
  const id = decodeKey(String(row['rowKey']));
  let text = '';
  for (let at = 0; typeof row[`b${at}`] === 'string'; at++) text += row[`b${at}`];
  try {
    return { id, body: JSON.parse(text), etag: String(row['etag']) };
  } catch (cause) {
    throw new AppError('corrupt', { detail: `document ${id}`, cause });
  }
}

/** Runs `write`; when the table itself is missing, creates it and runs `write` again. */
async function withTable<T>(
  table: TableClient,
  abortSignal: AbortSignal,
  write: () => Promise<T>,
): Promise<T> {
  try {
    return await write();
  } catch (cause) {
    if (!lacksHome(storageFailure(cause))) throw cause;
    await table.createTable({ abortSignal });
    return await write();
  }
}

/** Null when the row or its whole table is missing. */
async function unlessMissing<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (cause) {
    if (storageFailure(cause).status === 404) return null;
    throw cause;
  }
}

/** True when the service refused a condition, as opposed to not answering. */
function isRefusal(cause: unknown): boolean {
  const { status, code } = storageFailure(cause);
  if (code.endsWith('BeingDeleted')) return false;
  return status === 404 || status === 409 || status === 412;
}

function conflict(cause: unknown): AppError {
  return new AppError('conflict', {
    detail: 'a condition of the write does not hold',
    cause: plainError(cause),
  });
}

function known(etag: string | undefined): string {
  if (etag === undefined) throw new Error('a write was answered without an ETag');
  return etag;
}
