import type { Audit, AuditEntry } from '../audit/log.ts';
import { allows } from '../auth/roles.ts';
import type { Caller, TokenVerifier } from '../auth/tokens.ts';
import type { Clock } from '../clock.ts';
import { AppError, type ErrorCode, toAppError } from '../errors.ts';
import { errorFields, type Log } from '../log.ts';
import { ulid } from '../rotation/ulid.ts';
import { parseTraceparent } from '../telemetry.ts';
import type { HttpAnswer, HttpRequest } from './http-message.ts';
import type { CallContext, Operation, ParsedInput } from './operation.ts';
import { parseRequest } from './parse.ts';
import { problemAnswer } from './problem.ts';

/** What every call needs, whatever its operation. */
export interface ServeServices {
  readonly tokens: TokenVerifier;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly log: Log;
  /** From the request's arrival to its answer; default 60,000 (the platform cuts at 230 s). */
  readonly deadlineMs?: number;
}

/** One call on its way. */
interface Call<S> {
  readonly operation: Operation<S>;
  readonly request: HttpRequest;
  readonly services: ServeServices & S;
  readonly requestId: string;
  readonly correlationId: string;
  readonly signal: AbortSignal;
}

/**
 * Answers one call, and always answers: authenticate, authorize the role, parse, record the intent,
 * run, check the answer, record the outcome. Errors become problem documents. When the deadline
 * passes the caller is told so; the call itself goes on, and its true outcome is recorded.
 */
export async function serve<S>(
  operation: Operation<S>,
  received: HttpRequest,
  services: ServeServices & S,
): Promise<HttpAnswer> {
  const { clock, log, deadlineMs = 60_000 } = services;
  const startedAt = performance.now();
  const request = {
    ...received,
    headers: lowerCased(received.headers),
    readBody: () => received.readBody(),
  };
  const requestId = ulid(clock.now());
  const correlationId = parseTraceparent(request.headers['traceparent'])?.traceId ?? requestId;
  const deadline = new AbortController();
  const call = { operation, request, services, requestId, correlationId, signal: deadline.signal };

  const { promise: overdue, resolve } = Promise.withResolvers<HttpAnswer>();
  const timer = setTimeout(() => {
    deadline.abort();
    const error = new AppError('internal', { detail: `no answer within ${deadlineMs} ms` });
    resolve(failed(call, error));
  }, deadlineMs);
  const answered = handle(call).catch((error: unknown) => failed(call, error));
  const answer = await Promise.race([answered, overdue]).finally(() => clearTimeout(timer));

  const ms = Math.round(performance.now() - startedAt);
  log.info('request.answered', {
    operation: operation.id,
    status: answer.status,
    ms,
    correlationId,
  });
  return {
    ...answer,
    headers: { ...commonHeaders, ...answer.headers, 'x-correlation-id': correlationId },
  };
}

const commonHeaders = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' } as const;

async function handle<S>(call: Call<S>): Promise<HttpAnswer> {
  const { operation, request, services } = call;
  if (request.method !== operation.method) {
    throw new AppError('not_found', { detail: `${request.method} on ${operation.id}` });
  }
  const caller = await authenticate(call);
  if (caller !== null) await authorize(call, caller);
  const input = await parseRequest(operation, request);
  const record = recorder(call, caller, input);
  await record('intended');
  try {
    const { requestId, correlationId, signal } = call;
    const { clock, log } = services;
    const context: CallContext<S, Caller | null> = {
      caller,
      services,
      clock,
      log,
      requestId,
      correlationId,
      signal,
    };
    const answer = checkAnswer(operation, await operation.run(input, context));
    await recordOutcome(call, () => record('done'));
    return answer;
  } catch (error) {
    const { code } = toAppError(error, operation.id);
    await recordOutcome(call, () => record(code === 'forbidden' ? 'refused' : 'failed', code));
    throw declared(operation, error);
  }
}

async function authenticate<S>({ operation, request, services }: Call<S>): Promise<Caller | null> {
  if (operation.allow === 'public') return null;
  return await services.tokens.verify(request.headers['authorization'] ?? null);
}

/** Recorded whatever the operation's audit says: a caller who tries doors is worth knowing. */
async function authorize<S>(call: Call<S>, caller: Caller): Promise<void> {
  const { operation, services } = call;
  if (operation.allow === 'public' || allows(caller, operation.allow)) return;
  const detail = { operation: operation.id, needs: operation.allow };
  await services.audit.append([callEntry(call, caller, { outcome: 'refused', detail })]);
  throw new AppError('forbidden', { detail: `${operation.id} needs ${operation.allow}` });
}

type Outcome = NonNullable<AuditEntry['outcome']>;

/** Writes audit entries of this call in the way its operation asks for. */
function recorder<S>(call: Call<S>, caller: Caller | null, input: ParsedInput) {
  const { operation, services } = call;
  const { detail: about, ...subject } =
    operation.audit === 'none' ? {} : operation.auditSubject(input);
  return async (outcome: Outcome, code?: ErrorCode): Promise<void> => {
    if (operation.audit === 'none') return;
    const detail = { ...about, ...(code === undefined ? {} : { code }) };
    const entry = { ...callEntry(call, caller, { outcome, detail }), ...subject };
    const written = services.audit.append([entry]);
    if (operation.audit === 'durable') await written;
    else written.catch((error: unknown) => unrecorded(call, error));
  };
}

function callEntry<S>(
  { operation, services, requestId, correlationId }: Call<S>,
  caller: Caller | null,
  {
    outcome,
    detail,
  }: { readonly outcome: Outcome; readonly detail: NonNullable<AuditEntry['detail']> },
): AuditEntry {
  return {
    id: `${requestId}.${outcome}`,
    at: services.clock.now(),
    actor: caller === null ? 'anonymous' : (caller.objectId ?? caller.subject),
    action: `api.${operation.id}`,
    correlationId,
    outcome,
    ...(Object.keys(detail).length === 0 ? {} : { detail }),
  };
}

/** The deed is done and its intent on record: that the outcome is not cannot undo it. */
async function recordOutcome<S>(call: Call<S>, record: () => Promise<void>): Promise<void> {
  try {
    await record();
  } catch (error) {
    unrecorded(call, error);
  }
}

function unrecorded<S>({ operation, services, correlationId }: Call<S>, error: unknown): void {
  const fields = { operation: operation.id, correlationId, ...errorFields(error) };
  services.log.error('audit.entry_lost', fields);
}

/** The answer as `returns` reads it, so that nothing leaves that the definition does not name. */
function checkAnswer<S>(operation: Operation<S>, result: unknown): HttpAnswer {
  const parsed = operation.returns.safeParse(result);
  if (!parsed.success) {
    throw new AppError('internal', { detail: `answer of ${operation.id}`, cause: parsed.error });
  }
  const status = operation.status(parsed.data);
  if (status === 204) return { status, headers: {}, body: null };
  const body = JSON.stringify(parsed.data);
  return { status, headers: { 'content-type': 'application/json' }, body };
}

/** What any operation may answer with, declared or not. */
const alwaysDeclared: readonly ErrorCode[] = ['internal', 'storage_unavailable'];

function declared<S>({ id, errors }: Operation<S>, error: unknown): AppError {
  const known = toAppError(error, id);
  if ([...errors, ...alwaysDeclared].includes(known.code)) return known;
  return new AppError('internal', { detail: `${id} does not declare ${known.code}`, cause: error });
}

function failed<S>(call: Call<S>, error: unknown): HttpAnswer {
  const { operation, services, requestId, correlationId } = call;
  const known = toAppError(error, `serve ${operation.id}`);
  const fields = { operation: operation.id, correlationId, ...errorFields(known) };
  if (known.code === 'internal') services.log.error('request.failed', fields);
  else services.log.warn('request.refused', fields);
  return problemAnswer(known, requestId);
}

/** A header that came in two spellings counts as given twice, as the host joins repeated ones. */
function lowerCased(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const lower: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(headers)) {
    const key = name.toLowerCase();
    lower[key] = key in lower ? `${lower[key]},${value}` : value;
  }
  return lower;
}
