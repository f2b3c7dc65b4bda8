import { createRequire } from 'node:module';
import type { FunctionMetadata, LogLevel, RpcInvocation, RpcResponse } from './protocol.ts';

export type FunctionCallback = (...inputs: unknown[]) => unknown;
type HookName = 'appStart' | 'appTerminate' | 'preInvocation' | 'postInvocation' | 'log';
type HookCallback = (context: Record<string, unknown>) => unknown;

export interface CoreInvocation {
  invocationId: string;
  request: RpcInvocation;
  metadata: FunctionMetadata;
  state?: string;
  log(level: LogLevel, category: 'user' | 'system', message: string): void;
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
export function createCoreApi(log: (level: LogLevel, text: string) => void): CoreApi {
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
      log: (level: LogLevel, _category: string, message: string) => log(level, message),
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
