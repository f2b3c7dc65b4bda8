import { randomBytes, randomUUID } from 'node:crypto';
import type { CoreInvocation, RpcInvocation, RpcResponse, RpcTypedData } from './core-api.ts';
import type { LoadedApp, LoadedFunction } from './load.ts';
import { describeError, type Log, messageOf } from './log.ts';
import { pause } from './time.ts';

export interface InvocationRequest {
  /** Why it runs, for the log: `Timer fired`, `This function was programmatically called` … */
  readonly reason: string;
  readonly input: RpcTypedData | null;
  readonly triggerMetadata?: Record<string, RpcTypedData>;
  readonly traceParent?: string | undefined;
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
  readonly app: LoadedApp;
  readonly log: Log;
  readonly timeoutMs: number | null;
  /** Delivers the output bindings; a failure fails the invocation. */
  readonly deliverOutputs: (fn: LoadedFunction, response: RpcResponse) => Promise<void>;
}

type RetryContext = NonNullable<RpcInvocation['retryContext']>;

/** The part of the host and worker that runs handlers. Source: azure-functions-nodejs-worker, InvocationHandler. */
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
  const invocationId = randomUUID();
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
    const response = await withTimeout(
      runModel(deps, fn, coreInvocation(deps, fn, request, { invocationId, retry })),
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
    throw error;
  }
}

function elapsed(started: number): number {
  return Math.round(performance.now() - started);
}

async function withTimeout<T>(work: Promise<T>, ms: number | null): Promise<T> {
  if (ms === null) return work;
  const limit = new AbortController();
  const late = pause(ms, limit.signal).then(() => {
    if (!limit.signal.aborted) {
      throw new Error(
        `Timeout value of ${ms} ms was exceeded (Azure would now restart the worker process)`,
      );
    }
    return work;
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

function coreInvocation(
  deps: InvokerDependencies,
  fn: LoadedFunction,
  request: InvocationRequest,
  run: { readonly invocationId: string; readonly retry: RetryContext | undefined },
): CoreInvocation {
  const { invocationId, retry } = run;
  return {
    invocationId,
    metadata: fn.metadata,
    request: {
      invocationId,
      inputData: [{ name: fn.trigger.binding, data: request.input }],
      triggerMetadata: request.triggerMetadata ?? null,
      traceContext: {
        traceParent: request.traceParent ?? newTraceParent(),
        traceState: '',
        attributes: {},
      },
      ...(retry === undefined ? {} : { retryContext: retry }),
    },
    log(level, category, message) {
      const entry = { hookData: {}, level, message, category };
      for (const hook of deps.app.core.hooks('log')) hook(entry);
      const suffix = category === 'user' ? '.User' : '';
      deps.log.write({
        level: entry.level,
        text: entry.message,
        category: `Function.${fn.name}${suffix}`,
        functionName: fn.name,
        invocationId,
      });
    },
  };
}

function newTraceParent(): string {
  return `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-00`;
}

async function runModel(
  deps: InvokerDependencies,
  fn: LoadedFunction,
  core: CoreInvocation,
): Promise<RpcResponse> {
  const { app } = deps;
  const model = app.model.getInvocationModel(core);
  const { context, inputs } = await model.getArguments();
  const shared = { hookData: {}, appHookData: app.hookData, invocationContext: context };
  core.state = 'preInvocationHooks';
  const before = { ...shared, inputs, functionCallback: fn.callback };
  for (const hook of app.core.hooks('preInvocation')) await hook(before);
  core.state = 'invocation';
  const after: Record<string, unknown> & { result: unknown; error: unknown } = {
    ...shared,
    inputs: before.inputs,
    result: null,
    error: null,
  };
  try {
    after.result = await model.invokeFunction(context, before.inputs, before.functionCallback);
  } catch (error) {
    after.error = error ?? new Error('the handler threw nothing');
  }
  core.state = 'postInvocationHooks';
  for (const hook of app.core.hooks('postInvocation')) await hook(after);
  if (after.error !== null && after.error !== undefined) throw after.error;
  return model.getResponse(context, after.result);
}
