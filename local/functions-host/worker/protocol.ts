/** The wire value of the host-worker protocol, as far as this host uses it. */
export interface RpcTypedData {
  string?: string;
  json?: string;
  bytes?: Uint8Array;
  int?: number;
  double?: number;
  http?: RpcHttp;
}

export interface RpcHttp {
  method?: string;
  url?: string;
  headers?: Record<string, string>;
  query?: Record<string, string>;
  params?: Record<string, string>;
  body?: RpcTypedData | null;
  statusCode?: string;
  cookies?: readonly RpcCookie[];
}

export interface RpcCookie {
  name: string;
  value: string;
  domain?: { value: string };
  path?: { value: string };
  expires?: { value: { seconds: number } };
  secure?: { value: boolean };
  httpOnly?: { value: boolean };
  sameSite?: 'none' | 'lax' | 'strict' | 'explicitNone';
  maxAge?: { value: number };
}

export type Binding = Readonly<Record<string, unknown>> & { type: string; direction: string };

interface RetryOptions {
  retryStrategy?: string;
  maxRetryCount?: number;
  delayInterval?: { seconds: number };
  minimumInterval?: { seconds: number };
  maximumInterval?: { seconds: number };
}

export interface FunctionMetadata {
  name: string;
  functionId?: string;
  bindings: Record<string, Binding>;
  retryOptions?: RetryOptions;
}

/** What a handler's request looks like to the programming model (`CoreInvocationContext.request`). */
export interface RpcInvocation {
  invocationId: string;
  inputData: readonly { name: string; data: RpcTypedData | null }[];
  triggerMetadata: Record<string, RpcTypedData> | null;
  traceContext: { traceParent: string; traceState: string; attributes: Record<string, string> };
  retryContext?: { retryCount: number; maxRetryCount: number; exception?: { message: string } };
}

export interface RpcResponse {
  returnValue?: RpcTypedData | null;
  outputData?: readonly { name: string; data: RpcTypedData }[];
}

/** What the host asks of its worker. */
export type HostMessage =
  | {
      readonly type: 'invoke';
      readonly functionName: string;
      readonly invocation: RpcInvocation;
    }
  | { readonly type: 'terminate' };

/** What a worker tells its host; errors as text, because an app's own classes cannot be copied. */
export type WorkerMessage =
  | {
      readonly type: 'loaded';
      readonly functions: readonly FunctionMetadata[];
      /** Where the worker's own HTTP server listens; `null` in typed-data mode. */
      readonly httpUri: string | null;
    }
  | { readonly type: 'not-loaded'; readonly failure: Failure }
  | { readonly type: 'done'; readonly invocationId: string; readonly response: RpcResponse }
  | { readonly type: 'failed'; readonly invocationId: string; readonly failure: Failure }
  | { readonly type: 'log'; readonly entry: WorkerLogEntry }
  | { readonly type: 'terminated' };

export interface Failure {
  readonly message: string;
  /** With stack and causes. */
  readonly description: string;
}

export type LogLevel =
  | 'trace'
  | 'debug'
  | 'information'
  | 'warning'
  | 'error'
  | 'critical'
  | 'none';

export interface WorkerLogEntry {
  readonly level: LogLevel;
  readonly text: string;
  /** `Worker`, or `Function.<name>` (about the function), or `Function.<name>.User` (by its handler). */
  readonly category: string;
  readonly functionName?: string;
  readonly invocationId?: string;
}
