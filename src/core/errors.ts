/**
 * Everything that can go wrong, as a closed table: what HTTP says, whether trying again may help,
 * and the one sentence a stranger may read. The operator's words are in `detail`, never here.
 */
const errorTable = {
  invalid_input: { status: 400, retryable: false, public: 'The request is not valid.' },
  unauthenticated: { status: 401, retryable: false, public: 'A valid access token is required.' },
  forbidden: { status: 403, retryable: false, public: 'The caller may not do this.' },
  not_found: { status: 404, retryable: false, public: 'There is no such thing here.' },
  conflict: { status: 409, retryable: false, public: 'The state has changed meanwhile.' },
  not_cancellable: {
    status: 409,
    retryable: false,
    public: 'The rotation has gone too far to be cancelled.',
  },
  object_disabled: { status: 409, retryable: false, public: 'The object is disabled.' },
  object_deleted: {
    status: 409,
    retryable: false,
    public: 'The name belongs to a deleted object that can still be recovered.',
  },
  lease_lost: { status: 409, retryable: true, public: 'Another worker has taken over.' },
  vault_denied: { status: 502, retryable: false, public: 'The vault refused access.' },
  vault_read_only: { status: 503, retryable: true, public: 'The vault is read-only at present.' },
  vault_throttled: { status: 503, retryable: true, public: 'The vault is throttling.' },
  vault_unavailable: { status: 503, retryable: true, public: 'The vault cannot be reached.' },
  circuit_open: {
    status: 503,
    retryable: true,
    public: 'The vault did not answer lately and is left alone for a moment.',
  },
  vault_rejected: { status: 502, retryable: false, public: 'The vault rejected the request.' },
  storage_unavailable: { status: 503, retryable: true, public: 'Storage cannot be reached.' },
  target_unreachable: { status: 502, retryable: true, public: 'The target cannot be reached.' },
  target_refused: { status: 502, retryable: false, public: 'The target refused the change.' },
  credential_rejected: {
    status: 502,
    retryable: false,
    public: 'The target does not accept the credential.',
  },
  target_in_grace: {
    status: 409,
    retryable: true,
    public: 'Another rotation still holds this target.',
  },
  consumer_unreachable: { status: 502, retryable: true, public: 'The consumer cannot be reached.' },
  consumer_refused: { status: 502, retryable: false, public: 'The consumer may not be called.' },
  bad_configuration: { status: 500, retryable: false, public: 'The service is misconfigured.' },
  corrupt: { status: 500, retryable: false, public: 'Stored data is damaged.' },
  internal: { status: 500, retryable: false, public: 'Something went wrong on our side.' },
} as const;

export type ErrorCode = keyof typeof errorTable;

/** What `code` means to a caller: HTTP status, whether a repeat may help, the public sentence. */
export function errorInfo(code: ErrorCode): {
  readonly status: number;
  readonly retryable: boolean;
  readonly public: string;
} {
  return errorTable[code];
}

/** The one error class. `detail` is for operators: what was attempted, on what; never a value. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly detail: string;

  constructor(code: ErrorCode, options: { detail: string; cause?: unknown }) {
    super(`${code}: ${options.detail}`, { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.detail = options.detail;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }
}

/** `error` as an AppError; anything unforeseen becomes `internal` with the original as cause. */
export function toAppError(error: unknown, attempted: string): AppError {
  if (error instanceof AppError) return error;
  return new AppError('internal', { detail: attempted, cause: error });
}

/** True when `error` is an AppError of one of `codes`. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is AppError {
  return error instanceof AppError && codes.includes(error.code);
}
