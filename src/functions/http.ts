import { app, type HttpRequest, type HttpResponseInit } from '@azure/functions';
import { type AnyOperation, operations, serve } from '../core/operations/index.ts';
import { keyturn } from './keyturn.ts';

/** One function per operation. Keys are the platform's; who may call is decided from tokens alone. */
export function registerHttp(): void {
  for (const operation of operations) {
    app.http(operation.id, {
      methods: [operation.method],
      route: operation.route,
      authLevel: 'anonymous',
      handler: (request) => answer(operation, request),
    });
  }
}

async function answer(operation: AnyOperation, request: HttpRequest): Promise<HttpResponseInit> {
  const { status, headers, body } = await serve(
    operation,
    {
      method: request.method,
      url: request.url,
      headers: Object.fromEntries(request.headers.entries()),
      params: request.params,
      query: request.query as unknown as URLSearchParams,
      readBody: async () => new Uint8Array(await request.arrayBuffer()),
    },
    keyturn().http(),
  );
  return { status, headers: { ...headers }, ...(body === null ? {} : { body }) };
}
