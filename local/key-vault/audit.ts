import type { Caller } from './caller.ts';
import type { Operation } from './operation.ts';

/** One answered (or unanswered) call of the data plane, or an event that was sent. */
export type AuditRecord = {
  /** Milliseconds since 1970, of the emulator's clock. */
  readonly at: number;
  readonly durationMs: number;
  readonly vault: string;
  readonly subscriptionId: string;
  /** What the URL of everything in the vault starts with. */
  readonly baseUrl: string;
  /** `null` for what is no operation. */
  readonly operation: Pick<Operation, 'id' | 'serviceName'> | null;
  readonly collection: string | null;
  readonly object: string | null;
  readonly version: string | null;
  readonly caller: Caller | null;
  /** `null` when no answer was sent: a reset or hang fault. */
  readonly status: number | null;
  /** Text of the refusal. */
  readonly description: string | null;
  /** Kind of the fault rule that applied. */
  readonly fault: string | null;
  /** Path and query; absent, like all that follows, for events. */
  readonly target?: string;
  readonly clientAddress?: string;
  readonly isAddressAuthorized?: boolean;
  readonly userAgent?: string | null;
  readonly correlationId?: string;
  readonly tls?: string | null;
  /** `null` when access is not controlled. */
  readonly isAllowed?: boolean | null;
  readonly assignmentId?: string | null;
};

const maxRecords = 50_000;

/** The calls of this process, oldest first; the oldest are dropped beyond 50,000. */
export class AuditRows {
  #records: AuditRecord[] = [];

  add(record: AuditRecord): void {
    this.#records.push(record);
    if (this.#records.length > maxRecords * 1.1) this.#records = this.#records.slice(-maxRecords);
  }

  list(): readonly AuditRecord[] {
    return this.#records.slice(-maxRecords);
  }

  get size(): number {
    return Math.min(this.#records.length, maxRecords);
  }

  clear(): void {
    this.#records = [];
  }
}

export function isCall({ target }: AuditRecord): boolean {
  return target !== undefined;
}

/** A call in few words. */
export function briefRow(record: AuditRecord): Record<string, unknown> {
  const { at, vault, operation, object, version, caller, status, fault } = record;
  return {
    time: new Date(at).toISOString(),
    vault,
    operation: operation?.id ?? null,
    object,
    version,
    identity: caller === null ? null : { appId: caller.appId, objectId: caller.objectId },
    status,
    fault,
  };
}
