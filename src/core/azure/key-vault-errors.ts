import { AppError } from '../errors.ts';
import type { Failure } from '../vault/pipeline.ts';
import { type VaultCallInfo, VaultError, type VaultErrorCode } from '../vault/vault-error.ts';

/** A vault's refusal as the SDK hands it on, reduced to what decides. */
interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly innerCode: string;
  readonly message: string;
}

type Rule = readonly [
  applies: (refusal: Refusal) => boolean,
  code: VaultErrorCode,
  transient: boolean,
];

/** The call that failed, and how to tell of it. */
export interface Attempt extends VaultCallInfo {
  /** What was attempted, in words: `get orders-db in main`. */
  readonly what: string;
  /** Whether the service's own words may be quoted: not when the request held a value they might repeat. */
  readonly isQuotable: boolean;
}

/** The first rule that applies decides. */
const rules: readonly Rule[] = [
  [
    ({ status, code }) => status === 404 && code.endsWith('NotFound') && code !== 'NotFound',
    'not_found',
    false,
  ],
  [({ innerCode }) => innerCode.endsWith('Disabled'), 'object_disabled', false],
  // Nobody's rights are at fault: the certificate's operation is over, or somebody is at work on it.
  [({ message }) => /^Pending status must|^Merge is forbidden/.test(message), 'conflict', false],
  [({ status }) => status === 401 || status === 403, 'vault_denied', false],
  [({ innerCode }) => innerCode === 'ObjectIsDeletedButRecoverable', 'object_deleted', false],
  [({ status, message }) => status === 409 && isLasting(message), 'conflict', false],
  // Being deleted, being recovered, or just purged: over in seconds.
  [({ status }) => status === 409, 'vault_unavailable', true],
  [({ status }) => status === 429, 'vault_throttled', true],
  // A failed-over vault. It lasts for minutes to hours, too long to wait in a call.
  [({ status, message }) => status === 503 && /read-only/i.test(message), 'vault_read_only', false],
  [({ status }) => status === 408 || status >= 500, 'vault_unavailable', true],
  [() => true, 'vault_rejected', false],
];

/** A conflict that waiting does not mend: a name that is taken, a certificate that is being made. */
function isLasting(message: string): boolean {
  return /conflict restoring|while a pending key vault certificate|\bexists\b/i.test(message);
}

/** What an error below the SDK means to us. */
export function judgeVaultError(cause: unknown, attempt: Attempt): Failure {
  if (cause instanceof AppError) return { error: cause, transient: false, retryAfterMs: null };
  const refusal = findRefusal(cause);
  if (refusal === null) return unanswered(cause, attempt);
  const [, code, transient] = rules.find(([applies]) => applies(refusal)) ?? fallback;
  const { status, code: said, innerCode } = refusal;
  const waitMs = retryAfterMs(cause);
  const detail = `${attempt.what}: ${[status, said, innerCode].filter(Boolean).join(' ')}`;
  const error = new VaultError(code, callOf(attempt), {
    ...{ detail, cause: bare(cause, attempt), retryAfterMs: waitMs },
    refusal: { status, code: said, innerCode: innerCode === '' ? null : innerCode },
  });
  const isDown = code === 'vault_unavailable' && status !== 409;
  return { error, transient, retryAfterMs: waitMs, service: isDown ? 'down' : 'alive' };
}

const fallback: Rule = [() => true, 'vault_rejected', false];

/**
 * Null unless it is a vault that speaks: its errors are JSON and carry a code. A proxy's 404 in HTML must not look
 * like a missing secret.
 */
function findRefusal(cause: unknown): Refusal | null {
  const error = cause as {
    name?: string;
    statusCode?: number;
    code?: string;
    message?: string;
    details?: { error?: { innerError?: { code?: string } } };
  } | null;
  if (error?.name !== 'RestError' || error.statusCode === undefined) return null;
  const { statusCode: status, code = '' } = error;
  // Who throttles need not be the vault itself.
  if (status !== 429 && (code === '' || code === 'PARSE_ERROR')) return null;
  return {
    status,
    code,
    innerCode: error.details?.error?.innerError?.code ?? '',
    message: error.message ?? '',
  };
}

/** No answer, half an answer, or somebody else's. */
function unanswered(cause: unknown, attempt: Attempt): Failure {
  const { name = '', code = '', message = '' } = (cause ?? {}) as Partial<NodeJS.ErrnoException>;
  // Waiting mends neither a certificate nor an identity, and a foreign challenge may be an attack.
  const isTrust =
    /CERT|TLS|SSL|_SIGNATURE/.test(code) || message.startsWith('The challenge resource');
  const isIdentity = /^(Aggregate)?Auth|^CredentialUnavailable/.test(name);
  const waitMs = retryAfterMs(cause);
  const error = new VaultError('vault_unavailable', callOf(attempt), {
    detail: `${attempt.what}: no usable answer${code === '' ? '' : ` (${code})`}`,
    ...{ cause: bare(cause, attempt), retryAfterMs: waitMs },
  });
  // Without an identity nothing was asked of the vault.
  const service = isIdentity ? 'unknown' : 'down';
  return { error, transient: !isTrust && !isIdentity, retryAfterMs: waitMs, service };
}

function callOf({ vault, operation, object }: VaultCallInfo): VaultCallInfo {
  return { vault, operation, object };
}

/** The cause without what the SDK ties to it: the request with its token and body. */
function bare(cause: unknown, { isQuotable }: Attempt): Error {
  const { name, message } = cause instanceof Error ? cause : new Error(String(cause));
  if (!isQuotable) return new Error(name);
  return new Error(`${name}: ${message.replaceAll(/\s+/g, ' ').slice(0, 300)}`);
}

function retryAfterMs(cause: unknown): number | null {
  const { headers } = (cause as { response?: { headers?: Headers } } | null)?.response ?? {};
  if (typeof headers?.get !== 'function') return null;
  const inMs = headers.get('retry-after-ms') ?? headers.get('x-ms-retry-after-ms');
  if (inMs !== null && inMs !== undefined) return finite(Number(inMs));
  const after = headers.get('retry-after');
  if (after === null || after === undefined) return null;
  return finite(Number(after) * 1000) ?? finite(Date.parse(after) - Date.now());
}

function finite(milliseconds: number): number | null {
  return Number.isFinite(milliseconds) ? milliseconds : null;
}
