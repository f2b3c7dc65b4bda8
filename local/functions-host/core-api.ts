import { createRequire } from 'node:module';
import type { Log, LogLevel } from './log.ts';

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

export type FunctionCallback = (...inputs: unknown[]) => unknown;
type HookName = 'appStart' | 'appTerminate' | 'preInvocation' | 'postInvocation' | 'log';
type HookCallback = (context: Record<string, unknown>) => unknown;

/** What a handler's request looks like to the programming model (`CoreInvocationContext.request`). */
export interface RpcInvocation {
  invocationId: string;
  inputData: readonly { name: string; data: RpcTypedData | null }[];
  triggerMetadata: Record<string, RpcTypedData> | null;
  traceContext: { traceParent: string; traceState: string; attributes: Record<string, string> };
  retryContext?: { retryCount: number; maxRetryCount: number; exception?: { message: string } };
}

export interface CoreInvocation {
  invocationId: string;
  request: RpcInvocation;
  metadata: FunctionMetadata;
  state?: string;
  log(level: LogLevel, category: 'user' | 'system', message: string): void;
}

export interface RpcResponse {
  returnValue?: RpcTypedData | null;
  outputData?: readonly { name: string; data: RpcTypedData }[];
}

interface InvocationModel {
  getArguments(): Promise<{ context: unknown; inputs: unknown[] }>;
  invokeFunction(context: unknown, inputs: unknown[], handler: FunctionCallback): Promise<unknown>;
  getResponse(context: unknown, result: unknown): Promise<RpcResponse>;
}

export interface ProgrammingModel {
  name: string;
  version: string;
  getInvocationModel(context: CoreInvocation): InvocationModel;
  getCapabilities(capabilities: Record<string, string>): Promise<Record<string, string>>;
}

export interface Registration {
  readonly metadata: FunctionMetadata;
  readonly callback: FunctionCallback;
}

export interface CoreApi {
  /** What `require('@azure/functions-core')` returns inside the app. */
  readonly exports: object;
  registrations(): readonly Registration[];
  hooks(name: HookName): readonly HookCallback[];
  model(): ProgrammingModel | null;
  /** From now on registering a function throws. */
  lock(): void;
}

const hookNames: readonly string[] = [
  'appStart',
  'appTerminate',
  'preInvocation',
  'postInvocation',
  'log',
];

class Disposable {
  #callback: (() => unknown) | undefined;
  constructor(callback: () => unknown) {
    this.#callback = callback;
  }
  static from(...items: { dispose(): unknown }[]): Disposable {
    return new Disposable(() => {
      for (const item of items) item.dispose();
    });
  }
  dispose(): void {
    this.#callback?.();
    this.#callback = undefined;
  }
}

/** The stand-in for the worker's `@azure/functions-core` module. Source: azure-functions-nodejs-worker, setupCoreModule. */
export function createCoreApi(log: Log): CoreApi {
  const registrations = new Map<string, Registration>();
  const hooks = new Map<string, HookCallback[]>();
  let model: ProgrammingModel | null = null;
  let locked = false;

  const registerFunction = (metadata: FunctionMetadata, callback: FunctionCallback): Disposable => {
    if (locked) throw new Error('A function can only be registered during app startup.');
    const id = metadata.functionId ?? metadata.name;
    if (registrations.has(id)) {
      throw new Error(`A function with id "${id}" has already been registered.`);
    }
    registrations.set(id, { metadata, callback });
    return new Disposable(() => registrations.delete(id));
  };
  const registerHook = (name: string, callback: HookCallback): Disposable => {
    if (!hookNames.includes(name)) {
      // The library recognises this flag and turns the error into advice.
      throw Object.assign(new RangeError(`Unrecognized hook "${name}"`), {
        isAzureFunctionsSystemError: true,
      });
    }
    hooks.set(name, [...(hooks.get(name) ?? []), callback]);
    return new Disposable(() =>
      hooks.set(
        name,
        (hooks.get(name) ?? []).filter((other) => other !== callback),
      ),
    );
  };
  return {
    exports: {
      version: '3.14.1',
      hostVersion: '4.1052.200',
      Disposable,
      registerFunction,
      registerHook,
      setProgrammingModel: (next: ProgrammingModel) => {
        model = next;
      },
      getProgrammingModel: () => model,
      log: (level: LogLevel, _category: string, message: string) =>
        log.write({ level, text: message, category: 'Worker' }),
    },
    registrations: () => [...registrations.values()],
    hooks: (name) => hooks.get(name) ?? [],
    model: () => model,
    lock: () => {
      locked = true;
    },
  };
}

type ModuleLoad = (id: string, parent: unknown, isMain: boolean) => unknown;

/**
 * Makes `require('@azure/functions-core')` return `core.exports` in this process. As in the real
 * worker only `require` is served: an ESM `import` of that name would fail in Azure, so it fails here.
 */
export function installCoreApi(core: CoreApi): void {
  // Module._load has no type: it is what every require, createRequire's too, ends in.
  const loader = createRequire(import.meta.url)('node:module') as { _load: ModuleLoad };
  const original = loader._load;
  loader._load = function load(this: unknown, id, parent, isMain) {
    return id === '@azure/functions-core' ? core.exports : original.call(this, id, parent, isMain);
  };
}
