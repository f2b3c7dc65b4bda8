import { AppError, type ErrorCode } from '../errors.ts';
import type { Failure } from '../vault/pipeline.ts';

/** A vault's refusal as the SDK hands it on, reduced to what decides. */
interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly innerCode: string;
  readonly message: string;
}

type Rule = readonly [applies: (refusal: Refusal) => boolean, code: ErrorCode, transient: boolean];

/** The first rule that applies decides. */
const rules: readonly Rule[] = [
  [
    ({ status, code }) => status === 404 && code.endsWith('NotFound') && code !== 'NotFound',
    'not_found',
    false,
  ],
  [({ innerCode }) => innerCode.endsWith('Disabled'), 'object_disabled', false],
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
  return /conflict restoring|while a pending key vault certificate/i.test(message);
}

/** What an error below the SDK means to us. `attempted` names operation, vault and object. */
export function judgeVaultError(cause: unknown, attempted: string): Failure {
  if (cause instanceof AppError) return { error: cause, transient: false, retryAfterMs: null };
  const refusal = findRefusal(cause);
  if (refusal === null) return unanswered(cause, attempted);
  const [, code, transient] = rules.find(([applies]) => applies(refusal)) ?? fallback;
  const said = [refusal.status, refusal.code, refusal.innerCode].filter(Boolean).join(' ');
  return {
    error: new AppError(code, { detail: `${attempted}: ${said}`, cause: bare(cause, attempted) }),
    transient,
    retryAfterMs: retryAfterMs(cause),
  };
}

const fallback: Rule = [() => true, 'vault_rejected', false];

/**
 * Null unless it is a vault that speaks: its errors are JSON and carry a code. A proxy's 404 in
 * HTML must not look like a missing secret.
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
  if (typeof error.code !== 'string' || error.code === 'PARSE_ERROR') return null;
  return {
    status: error.statusCode,
    code: error.code,
    innerCode: error.details?.error?.innerError?.code ?? '',
    message: error.message ?? '',
  };
}

/** No answer, half an answer, or somebody else's. */
function unanswered(cause: unknown, attempted: string): Failure {
  const { name = '', code = '', message = '' } = (cause ?? {}) as Partial<NodeJS.ErrnoException>;
  // Waiting mends neither a certificate nor an identity, and a foreign challenge may be an attack.
  const lasting =
    /CERT|TLS|SSL|_SIGNATURE/.test(code) ||
    /^(Aggregate)?Auth|^CredentialUnavailable/.test(name) ||
    message.startsWith('The challenge resource');
  return {
    error: new AppError('vault_unavailable', {
      detail: `${attempted}: no usable answer${code === '' ? '' : ` (${code})`}`,
      cause: bare(cause, attempted),
    }),
    transient: !lasting,
    retryAfterMs: retryAfterMs(cause),
  };
}

/**
 * The cause without what the SDK ties to it: the request with its token and body. Of a `set` not
 * even the text is kept, in case it quotes what was sent.
 */
function bare(cause: unknown, attempted: string): Error {
  const { name, message } = cause instanceof Error ? cause : new Error(String(cause));
  if (attempted.startsWith('set ')) return new Error(name);
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
