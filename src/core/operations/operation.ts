import { z } from 'zod';
import type { Role } from '../auth/roles.ts';
import type { Caller } from '../auth/tokens.ts';
import type { Clock } from '../clock.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import type { Log } from '../log.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Who may call: anyone at all, or who holds a role. */
export type Allow = 'public' | Role;

/**
 * What the audit log learns. `durable`: the intent is on disk before `run` starts and the outcome
 * before the answer leaves. `buffered`: both are written, the answer does not wait. `none`: neither.
 * A caller who may not is recorded in any case.
 */
type AuditMode = 'durable' | 'buffered' | 'none';

/** What an audit entry of a call is about. */
interface AuditSubject {
  readonly object?: string;
  readonly rotationId?: string;
  readonly detail?: Readonly<Record<string, string | number | boolean | null>>;
}

/** What a call's `run` gets besides its input. */
export interface CallContext<S, C extends Caller | null = Caller> {
  readonly caller: C;
  readonly services: S;
  readonly clock: Clock;
  readonly log: Log;
  /** New for each call. */
  readonly requestId: string;
  /** The trace id of the caller's `traceparent`, else the request id. */
  readonly correlationId: string;
  /** Aborted when the answer is overdue: nobody waits any more. */
  readonly signal: AbortSignal;
}

type Fields = z.ZodObject;
type NoFields = z.ZodObject<Record<never, never>>;
type CallerOf<A extends Allow> = A extends 'public' ? null : Caller;

interface Input<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  readonly params: z.output<P>;
  readonly query: z.output<Q>;
  readonly body: z.output<B>;
}

interface OperationSpec<
  A extends Allow,
  P extends Fields,
  Q extends Fields,
  B extends z.ZodType,
  R extends z.ZodType,
  S,
> {
  /** The function's name: `start-rotation`. */
  readonly id: string;
  readonly summary: string;
  readonly method: Method;
  /** Below the prefix, without a leading slash; parameters as `{name}`. */
  readonly route: string;
  readonly allow: A;
  readonly audit: AuditMode;
  readonly auditSubject?: (input: Input<P, Q, B>) => AuditSubject;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly returns: R;
  /** Default 200. */
  readonly status?: number | ((answer: z.output<R>) => number);
  /** Codes `run` may answer with; any other becomes `internal`. */
  readonly errors: readonly ErrorCode[];
  readonly run: (
    input: Input<P, Q, B>,
    context: CallContext<S, CallerOf<A>>,
  ) => Promise<z.input<R>>;
}

/** One HTTP operation, its own types forgotten: what the registry holds and `serve` takes. */
export interface Operation<S> {
  readonly id: string;
  readonly summary: string;
  readonly method: Method;
  readonly route: string;
  readonly allow: Allow;
  readonly audit: AuditMode;
  readonly auditSubject: (input: ParsedInput) => AuditSubject;
  readonly params: z.ZodObject;
  readonly query: z.ZodObject;
  /** Null when it takes none. */
  readonly body: z.ZodType | null;
  readonly returns: z.ZodType;
  readonly status: (answer: unknown) => number;
  readonly errors: readonly ErrorCode[];
  readonly run: (input: ParsedInput, context: CallContext<S, Caller | null>) => Promise<unknown>;
}

export interface ParsedInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/**
 * The one definition of an HTTP operation: route, validation of what comes and goes, who may call,
 * what is audited. Unknown fields are refused at the top; nested objects say `z.strictObject`.
 * The services that `run` needs are named by annotating its second parameter.
 * @throws AppError `bad_configuration` when id, route and parameters do not fit together
 */
export function operation<
  const A extends Allow,
  P extends Fields = NoFields,
  Q extends Fields = NoFields,
  B extends z.ZodType = z.ZodUndefined,
  R extends z.ZodType = z.ZodType,
  S = object,
>(spec: OperationSpec<A, P, Q, B, R, S>): Operation<S> {
  const params = strict(spec.params ?? z.object({}));
  checkName(spec);
  checkRoute(spec.route, Object.keys(params.shape));
  const { status = 200 } = spec;
  return {
    ...spec,
    params,
    query: strict(spec.query ?? z.object({})),
    body: spec.body instanceof z.ZodObject ? strict(spec.body) : (spec.body ?? null),
    // Here the types end: serve hands over only what these very schemas have parsed, and a caller
    // whenever `allow` is a role.
    auditSubject: (spec.auditSubject ?? (() => ({}))) as Operation<S>['auditSubject'],
    status: (answer) => (typeof status === 'number' ? status : status(answer as z.output<R>)),
    run: spec.run as Operation<S>['run'],
  };
}

/** The names of a route's parameters, in order. */
export function routeParameters(route: string): readonly string[] {
  return [...route.matchAll(/\{\*{0,2}(\w+)[^{}]*\}/g)].map(([, name = '']) => name);
}

/** The Functions host takes these names only, and not `host`. */
function checkName({ id }: { readonly id: string }): void {
  if (/^[a-z][a-z0-9_-]{0,127}$/.test(id) && id !== 'host') return;
  throw new AppError('bad_configuration', { detail: `operation id ${id}` });
}

/** The host keeps paths beginning with `admin` and `runtime` for itself. */
function checkRoute(route: string, parameters: readonly string[]): void {
  const isPath = !/^\/|\/$|^(admin|runtime)/i.test(route);
  const inRoute = routeParameters(route);
  const isSame =
    inRoute.length === parameters.length && parameters.every((name) => inRoute.includes(name));
  if (isPath && isSame) return;
  throw new AppError('bad_configuration', { detail: `route ${route} with its parameters` });
}

function strict(schema: z.ZodObject): z.ZodObject {
  return schema.strict();
}
