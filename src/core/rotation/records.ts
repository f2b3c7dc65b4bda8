import { createHash } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import type {
  Condition,
  DocumentStore,
  DocumentWrite,
  JsonObject,
  StoredDocument,
} from '../storage/ports.ts';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import { type Journal, journalBody, ProvenVersion, parseJournal } from './journal.ts';

/** Objects are spread over this many partitions; a sweep lists each. Fixed: it is part of the data. */
const shardCount = 16;

/** All partitions that hold rotations. */
export const shards: readonly string[] = Array.from({ length: shardCount }, (_, i) => shardName(i));

/** The partition of everything about `ref`; names are compared without case, as Key Vault does. */
export function shardOf(ref: ObjectRef): string {
  const digest = createHash('sha256').update(objectId(ref).toLowerCase()).digest();
  return shardName(digest.readUInt32BE(0) % shardCount);
}

function shardName(index: number): string {
  return `rotations-${index.toString(16)}`;
}

/** Ids of the rows of a shard. `active:` rows are what the sweep lists; the rest is history. */
export const rowId = {
  object: (ref: ObjectRef) => `object:${objectId(ref).toLowerCase()}`,
  lease: (ref: ObjectRef) => `lease:${objectId(ref).toLowerCase()}`,
  journal: (id: string) => `journal:${id}`,
  active: (id: string) => `active:rotation:${id}`,
  cancel: (id: string) => `cancel:${id}`,
} as const;

export const objectPrefix = 'object:';
export const activeRotationPrefix = 'active:rotation:';
export const journalPrefix = 'journal:';

const ObjectRecord = z.strictObject({
  active: z.string().nullable(),
  quarantined: z.string().nullable(),
  failures: z.int(),
  circuitOpenUntil: z.iso.datetime().nullable(),
  /** The version the last rotation proved to log in; null before there was one. */
  inForce: ProvenVersion.nullable(),
  last: z.strictObject({ rotationId: z.string(), state: z.string(), at: z.string() }).nullable(),
});
/** The durable record of one object: which rotation has it, and how the last ones ended. */
export type ObjectRecord = z.output<typeof ObjectRecord>;

export const emptyRecord: ObjectRecord = {
  active: null,
  quarantined: null,
  failures: 0,
  circuitOpenUntil: null,
  inForce: null,
  last: null,
};

/** A parsed document and the condition under which it may be written back. */
export interface Held<T> {
  readonly body: T;
  readonly when: Exclude<Condition, 'any'>;
}

export async function readRecord(
  store: DocumentStore,
  ref: ObjectRef,
): Promise<Held<ObjectRecord>> {
  const found = await store.get(shardOf(ref), rowId.object(ref));
  if (!found) return { body: emptyRecord, when: 'absent' };
  return { body: parseRecord(found), when: { etag: found.etag } };
}

/** @throws AppError `corrupt` */
export function parseRecord({ id, body }: StoredDocument): ObjectRecord {
  const parsed = ObjectRecord.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new AppError('corrupt', { detail: `object record ${id}`, cause: parsed.error });
}

/** Whether what no person asked for may begin: the object is free, not held, and not resting after failures. */
export function isAtPeace(
  { active, quarantined, circuitOpenUntil }: ObjectRecord,
  now: Date,
): boolean {
  const isResting = circuitOpenUntil !== null && new Date(circuitOpenUntil) > now;
  return active === null && quarantined === null && !isResting;
}

export interface HeldJournal {
  readonly journal: Journal;
  readonly etag: string;
}

export async function readJournal(
  store: DocumentStore,
  shard: string,
  id: string,
): Promise<HeldJournal | null> {
  const found = await store.get(shard, rowId.journal(id));
  return found && heldJournal(found);
}

export function heldJournal(document: StoredDocument): HeldJournal {
  return { journal: parseJournal(document.body), etag: document.etag };
}

/** Looks a rotation up by its id alone: a point read in each shard at once. */
export async function findJournal(store: DocumentStore, id: string): Promise<HeldJournal | null> {
  const found = await Promise.all(shards.map((shard) => readJournal(store, shard, id)));
  return found.find((held) => held !== null) ?? null;
}

export function putJournal(journal: Journal, when: Condition): DocumentWrite {
  return { kind: 'put', id: rowId.journal(journal.id), body: journalBody(journal), when };
}

export function putRecord(
  ref: ObjectRef,
  held: Held<ObjectRecord>,
  next: ObjectRecord,
): DocumentWrite {
  return { kind: 'put', id: rowId.object(ref), body: { ...next } as JsonObject, when: held.when };
}

export function putActive(journal: Journal): DocumentWrite {
  const body = {
    vault: journal.object.vault,
    type: journal.object.type,
    name: journal.object.name,
  };
  return { kind: 'put', id: rowId.active(journal.id), body, when: 'any' };
}
