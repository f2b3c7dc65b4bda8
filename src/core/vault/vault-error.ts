import { AppError, type ErrorCode } from '../errors.ts';

/** Everything that a call to a vault can end with. */
export type VaultErrorCode = Extract<
  ErrorCode,
  | 'not_found'
  | 'conflict'
  | 'object_disabled'
  | 'object_deleted'
  | 'vault_denied'
  | 'vault_read_only'
  | 'vault_rejected'
  | 'vault_throttled'
  | 'vault_unavailable'
  | 'circuit_open'
>;

/** What was attempted. */
export interface VaultCallInfo {
  /** The alias; of a secondary vault `ALIAS (secondary)`. */
  readonly vault: string;
  /** As the vault's own log names it: `getSecret`, `setSecret`, `getSecretVersions`. */
  readonly operation: string;
  /** The object's name; null for what concerns no single one, such as lists. */
  readonly object: string | null;
}

/** What the service itself said. */
export interface VaultRefusal {
  readonly status: number;
  /** `Forbidden`, `SecretNotFound`, … */
  readonly code: string;
  /** `SecretDisabled`, `ForbiddenByRbac`, …; null when there was none. */
  readonly innerCode: string | null;
}

/** A failed call to a vault, to be told apart by `code`; it never holds a value. */
export class VaultError extends AppError {
  declare readonly code: VaultErrorCode;
  readonly call: VaultCallInfo;
  /** Null when no usable answer came, or nothing was sent. */
  readonly refusal: VaultRefusal | null;
  /** How long to wait before the next try, where that is known. */
  readonly retryAfterMs: number | null;

  constructor(
    code: VaultErrorCode,
    call: VaultCallInfo,
    options: {
      readonly detail: string;
      readonly cause?: unknown;
      readonly refusal?: VaultRefusal;
      readonly retryAfterMs?: number | null;
    },
  ) {
    super(code, options);
    this.call = call;
    this.refusal = options.refusal ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** True when the vault was not there to answer: a 5xx, silence, no connection, an open circuit. */
export function isOutage(error: unknown): boolean {
  if (!(error instanceof AppError)) return false;
  if (error.code === 'circuit_open') return true;
  if (error.code !== 'vault_unavailable') return false;
  const status = error instanceof VaultError ? error.refusal?.status : undefined;
  // The other answers of that code are conflicts that pass: the vault is there.
  return status === undefined || status === 408 || status >= 500;
}
