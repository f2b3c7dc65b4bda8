/**
 * The three small ports on which everything durable stands. Implementers: Azure Storage
 * (`core/azure`) and memory (`memory.ts`); test/contract/storage.test.ts is run against both.
 * All of them throw AppError `storage_unavailable` (retryable) when the service does not answer.
 */

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export interface StoredDocument {
  /** 1 to 200 characters of any kind; ordered by UTF-16 code unit within a partition. */
  readonly id: string;
  readonly body: JsonObject;
  /** Opaque; changes with every write. */
  readonly etag: string;
}

/** When a write may happen: the document is absent, has this ETag, or whatever it is. */
export type Condition = 'absent' | 'any' | { readonly etag: string };

export type DocumentWrite =
  | {
      readonly kind: 'put';
      readonly id: string;
      readonly body: JsonObject;
      readonly when: Condition;
    }
  | { readonly kind: 'delete'; readonly id: string; readonly when: Exclude<Condition, 'absent'> };

export interface DocumentPage {
  readonly documents: readonly StoredDocument[];
  /** Hand it back to go on; null at the end. */
  readonly cursor: string | null;
}

/** Small JSON documents (at most 256 KiB each) in partitions, with optimistic concurrency. */
export interface DocumentStore {
  get(partition: string, id: string): Promise<StoredDocument | null>;
  /** @returns the new ETag. @throws AppError `conflict` when `when` does not hold */
  put(partition: string, id: string, body: JsonObject, when: Condition): Promise<string>;
  /** Deleting what is absent is done already. @throws AppError `conflict` when the ETag is another */
  delete(partition: string, id: string, when: Exclude<Condition, 'absent'>): Promise<void>;
  /** Documents whose id starts with `prefix`, in order of id. */
  list(
    partition: string,
    query?: { readonly prefix?: string; readonly cursor?: string | null; readonly limit?: number },
  ): Promise<DocumentPage>;
  /**
   * All writes or none, within one partition; at most 100, each id once.
   * @returns the new ETag of each put, in order of `writes` (null for a delete)
   * @throws AppError `conflict` when any condition does not hold; nothing was written then
   */
  transact(
    partition: string,
    writes: readonly DocumentWrite[],
  ): Promise<readonly (string | null)[]>;
}

/** A queue of small JSON messages (at most 48 KiB as text), delivered at least once, in no order. */
export interface WorkQueue {
  /** @param delaySeconds how long nobody is given it: whole seconds, default 0, a minute at most */
  send(message: JsonObject, delaySeconds?: number): Promise<void>;
}

/** Byte logs that only grow, one writer each; names are paths of `[A-Za-z0-9._/-]`. */
export interface AppendLog {
  /**
   * Appends at exactly `position` bytes; creates the log at position 0. Repeating an append whose
   * answer was lost succeeds: the bytes are compared with what stands there.
   * @returns the new length. @throws AppError `conflict` when other bytes stand at `position`
   */
  append(name: string, position: number, bytes: Uint8Array): Promise<number>;
  /** All bytes. @throws AppError `not_found` */
  read(name: string): Promise<Uint8Array>;
  /** Names that start with `prefix`, ordered. */
  list(prefix: string): AsyncIterable<string>;
}
