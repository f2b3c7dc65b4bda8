import type { CoreInvocation, Registration } from './core-api.ts';
import type { LoadedApp } from './load.ts';
import type { RpcInvocation, RpcResponse, WorkerLogEntry } from './protocol.ts';

/**
 * Runs one handler with its hooks around it. Rejects with what the handler or a hook threw.
 * Source: azure-functions-nodejs-worker, InvocationHandler.
 */
export async function runHandler(
  app: LoadedApp,
  { metadata, callback }: Registration,
  invocation: RpcInvocation,
  log: (entry: WorkerLogEntry) => void,
): Promise<RpcResponse> {
  const core = coreInvocation(app, metadata, invocation, log);
  const model = app.model.getInvocationModel(core);
  const { context, inputs } = await model.getArguments();
  const shared = { hookData: {}, appHookData: app.hookData, invocationContext: context };
  core.state = 'preInvocationHooks';
  const before = { ...shared, inputs, functionCallback: callback };
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

function coreInvocation(
  app: LoadedApp,
  metadata: Registration['metadata'],
  invocation: RpcInvocation,
  write: (entry: WorkerLogEntry) => void,
): CoreInvocation {
  const { invocationId } = invocation;
  return {
    invocationId,
    metadata,
    request: invocation,
    log(level, category, message) {
      const entry = { hookData: {}, level, message, category };
      for (const hook of app.core.hooks('log')) hook(entry);
      write({
        level: entry.level,
        text: entry.message,
        category: `Function.${metadata.name}${category === 'user' ? '.User' : ''}`,
        functionName: metadata.name,
        invocationId,
      });
    },
  };
}
