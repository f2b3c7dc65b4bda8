/** One answered (or unanswered) call of the data plane. */
export type AuditRow = {
  readonly time: string;
  readonly vault: string;
  /** Operation id; `null` for what is no operation. */
  readonly operation: string | null;
  readonly object: string | null;
  readonly version: string | null;
  readonly identity: CallerIdentity | null;
  /** `null` when no answer was sent: a reset or hang fault. */
  readonly status: number | null;
  /** Kind of the fault rule that applied. */
  readonly fault: string | null;
};

export type CallerIdentity = { readonly appId: string | null; readonly objectId: string | null };

const maxRows = 50_000;

/** The calls of this process, oldest first; the oldest are dropped beyond 50,000. */
export class AuditRows {
  #rows: AuditRow[] = [];

  add(row: AuditRow): void {
    this.#rows.push(row);
    if (this.#rows.length > maxRows * 1.1) this.#rows = this.#rows.slice(-maxRows);
  }

  list(): readonly AuditRow[] {
    return this.#rows.slice(-maxRows);
  }

  clear(): void {
    this.#rows = [];
  }
}
