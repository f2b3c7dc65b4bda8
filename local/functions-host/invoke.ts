import { randomBytes, randomUUID } from 'node:crypto';
import type { LoadedFunction } from './functions.ts';
import { describeError, type Log, messageOf } from './log.ts';
import { pause } from './time.ts';
import type { RpcInvocation, RpcResponse, RpcTypedData } from './worker/protocol.ts';
import type { Workers } from './workers.ts';

export interface InvocationRequest {
  /** Why it runs, for the log: `Timer fired`, `This function was programmatically called` … */
  readonly reason: string;
  readonly input: RpcTypedData | null;
  readonly triggerMetadata?: Record<string, RpcTypedData>;
  readonly traceParent?: string | undefined;
  /** Given where another part must know it before; else a new one. */
  readonly invocationId?: string;
}

export interface Invoker {
  /** Runs the function once (timers: with its retry policy). Rejects with what the handler threw. */
  invoke(fn: LoadedFunction, request: InvocationRequest): Promise<RpcResponse>;
  /** Resolves true when nothing runs any more, false when `ms` passed first. */
  drain(ms: number): Promise<boolean>;
  /** Cuts retries short: what fails now stays failed. */
  stopRetrying(): void;
}

export interface InvokerDependencies {
  readonly workers: Pick<Workers, 'invoke' | 'ready' | 'restart'>;
  readonly log: Log;
  readonly timeoutMs: number | null;
  /** Delivers the output bindings; a failure fails the invocation. */
  readonly deliverOutputs: (fn: LoadedFunction, response: RpcResponse) => Promise<void>;
}

type RetryContext = NonNullable<RpcInvocation['retryContext']>;

/** The part of the host that has functions run, with timeout, retries and output bindings around them. */
export function createInvoker(deps: InvokerDependencies): Invoker {
  const running = new Set<Promise<unknown>>();
  const stopping = new AbortController();
  return {
    async invoke(fn, request) {
      const run = withRetries(deps, fn, request, stopping.signal);
      running.add(run);
      try {
        return await run;
      } finally {
        running.delete(run);
      }
    },
    async drain(ms) {
      const limit = new AbortController();
      const empty = (async () => {
        while (running.size > 0) await Promise.allSettled(running);
      })();
      await Promise.race([empty, pause(ms, limit.signal)]);
      limit.abort();
      return running.size === 0;
    },
    stopRetrying: () => stopping.abort(),
  };
}

async function withRetries(
  deps: InvokerDependencies,
  fn: LoadedFunction,
  request: InvocationRequest,
  stopping: AbortSignal,
): Promise<RpcResponse> {
  // Azure applies retry policies to timers, not to HTTP, queue or Event Grid triggers.
  const policy = (fn.trigger.type === 'timer' ? fn.metadata.retryOptions : undefined) ?? {};
  const most = policy.maxRetryCount ?? 0;
  let retry: RetryContext | undefined;
  for (;;) {
    try {
      return await invokeOnce(deps, fn, request, retry);
    } catch (error) {
      const count = retry?.retryCount ?? 0;
      const isLast = most >= 0 && count >= most;
      if (isLast || stopping.aborted) throw error;
      retry = {
        retryCount: count + 1,
        maxRetryCount: most,
        exception: { message: messageOf(error) },
      };
      await pause(retryDelayMs(policy, count), stopping);
    }
  }
}

function retryDelayMs(
  policy: NonNullable<LoadedFunction['metadata']['retryOptions']>,
  count: number,
): number {
  if (policy.retryStrategy !== 'exponentialBackoff')
    return (policy.delayInterval?.seconds ?? 0) * 1000;
  const least = policy.minimumInterval?.seconds ?? 0;
  const most = policy.maximumInterval?.seconds ?? least;
  return Math.min(most, Math.max(least, 1) * 2 ** count) * 1000;
}

async function invokeOnce(
  deps: InvokerDependencies,
  fn: LoadedFunction,
  request: InvocationRequest,
  retry?: RetryContext,
): Promise<RpcResponse> {
  const invocationId = request.invocationId ?? randomUUID();
  const say = (level: 'information' | 'error', text: string) =>
    deps.log.write({
      level,
      text,
      category: `Function.${fn.name}`,
      functionName: fn.name,
      invocationId,
    });
  const started = performance.now();
  say('information', `Executing 'Functions.${fn.name}' (Reason='${request.reason}')`);
  try {
    // Not on the function's time: a slow restart would end in the next restart.
    await deps.workers.ready();
    const response = await withTimeout(
      deps.workers.invoke(fn.name, rpcInvocation(fn, request, invocationId, retry)),
      deps.timeoutMs,
    );
    await deps.deliverOutputs(fn, response);
    say(
      'information',
      `Executed 'Functions.${fn.name}' (Succeeded, Duration=${elapsed(started)}ms)`,
    );
    return response;
  } catch (error) {
    say(
      'error',
      `Executed 'Functions.${fn.name}' (Failed, Duration=${elapsed(started)}ms) ${describeError(error)}`,
    );
    // As in Azure it takes everything else with it that the worker was doing.
    if (error instanceof FunctionTimeout) {
      deps.workers.restart(`function '${fn.name}' ran longer than functionTimeout`);
    }
    throw error;
  }
}

function elapsed(started: number): number {
  return Math.round(performance.now() - started);
}

class FunctionTimeout extends Error {}

async function withTimeout<T>(work: Promise<T>, ms: number | null): Promise<T> {
  if (ms === null) return work;
  const limit = new AbortController();
  const late = pause(ms, limit.signal).then(() => {
    if (limit.signal.aborted) return work;
    throw new FunctionTimeout(
      `Timeout value of ${ms} ms was exceeded (functionTimeout in host.json)`,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    limit.abort();
    // The loser may still reject; nobody else listens to it.
    late.catch(() => undefined);
    work.catch(() => undefined);
  }
}

function rpcInvocation(
  fn: LoadedFunction,
  request: InvocationRequest,
  invocationId: string,
  retry: RetryContext | undefined,
): RpcInvocation {
  return {
    invocationId,
    inputData: [{ name: fn.trigger.binding, data: request.input }],
    triggerMetadata: request.triggerMetadata ?? null,
    traceContext: {
      traceParent: request.traceParent ?? newTraceParent(),
      traceState: '',
      attributes: {},
    },
    ...(retry === undefined ? {} : { retryContext: retry }),
  };
}

function newTraceParent(): string {
  return `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-00`;
}
