import { z } from 'zod';
import { addSeconds, type Clock } from '../clock.ts';
import { AppError, hasCode } from '../errors.ts';
import type { DocumentStore, DocumentWrite } from '../storage/ports.ts';
import type { ObjectRef } from '../vault/ports.ts';
import type { Fence } from './handler.ts';
import { rowId, shardOf } from './records.ts';

const LeaseRow = z.strictObject({
  holder: z.string(),
  epoch: z.int(),
  expiresAt: z.iso.datetime(),
});
type LeaseRow = z.output<typeof LeaseRow>;

const released = new Date(0).toISOString();

/** What `offerLease` found: the write that would take the lease, or that somebody has it. */
export type LeaseOffer =
  | {
      readonly kind: 'free';
      readonly epoch: number;
      /** Whether the last holder let it run out instead of giving it back. */
      readonly isLapsed: boolean;
      readonly write: DocumentWrite;
    }
  | { readonly kind: 'held'; readonly until: Date };

export interface LeaseTools {
  readonly store: DocumentStore;
  readonly clock: Clock;
  /** Unique to this process. */
  readonly holder: string;
  readonly seconds: number;
}

/**
 * Looks whether the lease on `ref` may be taken. The write belongs into the transaction that also
 * writes the journal: whoever held it before can then write neither.
 */
export async function offerLease(tools: LeaseTools, ref: ObjectRef): Promise<LeaseOffer> {
  const found = await tools.store.get(shardOf(ref), rowId.lease(ref));
  const row = found && parseRow(found.body);
  if (row && new Date(row.expiresAt) > tools.clock.now()) {
    return { kind: 'held', until: new Date(row.expiresAt) };
  }
  const epoch = (row?.epoch ?? 0) + 1;
  const body = nextRow(tools, epoch);
  const when = found ? { etag: found.etag } : 'absent';
  const isLapsed = row !== null && row.expiresAt !== released;
  const write = { kind: 'put', id: rowId.lease(ref), body, when } as const;
  return { kind: 'free', epoch, isLapsed, write };
}

/** A lease that was taken. Renews itself at a third of its time until `release` or `stop`. */
export class Lease implements Fence {
  readonly epoch: number;
  readonly #tools: LeaseTools;
  readonly #ref: ObjectRef;
  #etag: string;
  #expiresAt: Date;
  #isLost = false;
  #work: Promise<void> = Promise.resolve();
  readonly #timer: NodeJS.Timeout;

  constructor(
    tools: LeaseTools,
    ref: ObjectRef,
    taken: { readonly epoch: number; readonly etag: string; readonly at: Date },
  ) {
    this.#tools = tools;
    this.#ref = ref;
    this.epoch = taken.epoch;
    this.#etag = taken.etag;
    this.#expiresAt = addSeconds(taken.at, tools.seconds);
    // A failed renewal is no news yet: `guard` and `hold` speak when it matters.
    this.#timer = setInterval(
      () => void this.#renew().catch(() => undefined),
      (tools.seconds * 1000) / 3,
    );
    this.#timer.unref();
  }

  async hold(): Promise<number> {
    await this.#renew();
    this.guard();
    return this.#expiresAt.getTime() - this.#tools.clock.now().getTime();
  }

  guard(): void {
    if (this.#isLost || this.#tools.clock.now() >= this.#expiresAt) throw lost(this.#ref);
  }

  /** Stops renewing and gives the write that frees the lease, for the caller's last transaction. */
  async release(): Promise<DocumentWrite> {
    await this.stop();
    const row = { ...nextRow(this.#tools, this.epoch), expiresAt: released };
    return { kind: 'put', id: rowId.lease(this.#ref), body: row, when: { etag: this.#etag } };
  }

  /** Stops renewing; the lease runs out by itself. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#work.catch(() => undefined);
  }

  /** One renewal at a time: each needs the ETag of the one before. */
  #renew(): Promise<void> {
    this.#work = this.#work.catch(() => undefined).then(() => this.#write());
    return this.#work;
  }

  async #write(): Promise<void> {
    this.guard();
    const { store, clock, seconds } = this.#tools;
    const at = clock.now();
    const body = nextRow(this.#tools, this.epoch);
    try {
      const when = { etag: this.#etag };
      this.#etag = await store.put(shardOf(this.#ref), rowId.lease(this.#ref), body, when);
      this.#expiresAt = addSeconds(at, seconds);
    } catch (error) {
      if (!hasCode(error, 'conflict')) throw error;
      this.#isLost = true;
      throw lost(this.#ref, error);
    }
  }
}

function nextRow({ clock, holder, seconds }: LeaseTools, epoch: number): LeaseRow {
  return { holder, epoch, expiresAt: addSeconds(clock.now(), seconds).toISOString() };
}

function parseRow(body: unknown): LeaseRow {
  const parsed = LeaseRow.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new AppError('corrupt', { detail: 'lease row', cause: parsed.error });
}

function lost(ref: ObjectRef, cause?: unknown): AppError {
  return new AppError('lease_lost', { detail: `${ref.vault}/${ref.type}/${ref.name}`, cause });
}
