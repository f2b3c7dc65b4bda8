import { app, HttpRequest, type HttpTrigger, type InvocationContext } from '@azure/functions';
import type { Invocation } from '../core/app.ts';
import { keyturn } from './keyturn.ts';

/** Every function, whatever begins it, runs within what `App.observed` puts around it. */
export function registerTelemetry(): void {
  app.hook.preInvocation((call) => {
    const { invocationContext: context, functionHandler: handler } = call;
    call.functionHandler = (input, ...rest) =>
      keyturn().observed(invocationOf(context, input), async () => handler(input, ...rest));
  });
  app.hook.appTerminate(() => keyturn().stop());
}

const triggers: Readonly<Record<string, Invocation['trigger']>> = {
  httpTrigger: 'http',
  timerTrigger: 'timer',
  eventGridTrigger: 'event',
};

function invocationOf(context: InvocationContext, input: unknown): Invocation {
  const { functionName, invocationId: id, traceContext, options } = context;
  const host = traceContext?.traceParent ?? null;
  const trigger = triggers[options.trigger.type] ?? 'queue';
  const common = { functionName, id, trigger, hostTraceparent: host };
  if (!(input instanceof HttpRequest)) {
    return { ...common, request: null, traceparent: Object(input).traceparent };
  }
  const { route = functionName } = options.trigger as unknown as HttpTrigger;
  const request = { method: input.method, route };
  return { ...common, request, traceparent: input.headers.get('traceparent') };
}
