import { Worker } from 'node:worker_threads';
import { describeError, type Log } from './log.ts';
import { pause } from './time.ts';
import type {
  FunctionMetadata,
  HostMessage,
  RpcInvocation,
  RpcResponse,
  WorkerMessage,
} from './worker/protocol.ts';

/** The thread that runs the app, and its successors. */
export interface Workers {
  readonly functions: readonly FunctionMetadata[];
  /** Resolves when a worker has loaded the app, at once unless one is being restarted. */
  ready(): Promise<void>;
  /** Where the running worker serves HTTP itself; `null` in typed-data mode. */
  httpUri(): Promise<string | null>;
  /** Rejects with what the handler threw, or because the worker ended first. */
  invoke(functionName: string, invocation: RpcInvocation): Promise<RpcResponse>;
  /** Ends the worker with everything that runs in it and starts another. */
  restart(reason: string): void;
  /** Runs the `appTerminate` hooks and ends the worker. Never rejects. */
  stop(): Promise<void>;
}

export interface WorkerOptions {
  readonly appDir: string;
  readonly log: Log;
  /** Start another worker when one ends by itself. */
  readonly keepAlive: boolean;
  /** Told when no worker is left that could run anything. */
  readonly onEnd: (error: Error) => void;
}

// The real host gives up at the third death of its one worker; how long it counts is our choice.
const mostDeaths = 3;
const deathsCountMs = 30 * 60_000;
// A hook that never ends must not keep the process.
const terminateMs = 5000;

/**
 * Starts the app in a thread of its own. A thread has what the real worker process has that matters
 * to an app, memory, modules and an event loop of its own, and can be ended in the middle of
 * anything; and unlike a process it lives and freezes with the host, whatever signal that gets.
 * @throws Error when the app cannot be loaded
 */
export async function startWorkers(options: WorkerOptions): Promise<Workers> {
  const { log, onEnd } = options;
  let deaths: number[] = [];
  let current = startThread(options.appDir, log, onDeath);
  const first = await current.loaded;

  function replace(): void {
    const next = startThread(options.appDir, log, onDeath);
    current = next;
    next.loaded.catch((cause: unknown) => {
      if (next === current) onEnd(new Error('the worker could not be started again', { cause }));
    });
  }
  function onDeath(thread: Thread, why: Error): void {
    if (thread !== current) return;
    deaths = [...deaths.filter((at) => Date.now() - at < deathsCountMs), Date.now()];
    if (!options.keepAlive || deaths.length >= mostDeaths) {
      onEnd(why);
      return;
    }
    const count = `death ${deaths.length} of ${mostDeaths} in half an hour`;
    log.error(`the worker is started again after ${count}: ${describeError(why)}`);
    replace();
  }
  return {
    functions: first.functions,
    ready: async () => void (await current.loaded),
    httpUri: async () => (await current.loaded).httpUri,
    async invoke(functionName, invocation) {
      let thread = current;
      await thread.loaded;
      // Restarted while we waited: what is posted to the old one would never be answered.
      while (thread !== current) {
        thread = current;
        await thread.loaded;
      }
      return thread.invoke(functionName, invocation);
    },
    restart(reason) {
      log.warn(`the worker is restarted: ${reason}`);
      const old = current;
      replace();
      old.end(new Error(`the worker was restarted: ${reason}`));
    },
    async stop() {
      const limit = new AbortController();
      await Promise.race([current.terminate(), pause(terminateMs, limit.signal)]);
      limit.abort();
    },
  };
}

interface Loaded {
  readonly functions: readonly FunctionMetadata[];
  readonly httpUri: string | null;
}

interface Thread {
  readonly loaded: Promise<Loaded>;
  invoke(functionName: string, invocation: RpcInvocation): Promise<RpcResponse>;
  /** Ends it at once; what runs in it is rejected with `why`. */
  end(why: Error): void;
  terminate(): Promise<void>;
}

interface Running {
  readonly resolve: (response: RpcResponse) => void;
  readonly reject: (error: Error) => void;
}

function startThread(
  appDir: string,
  log: Log,
  onDeath: (thread: Thread, why: Error) => void,
): Thread {
  const worker = new Worker(new URL('./worker/thread.ts', import.meta.url), {
    workerData: { appDir },
  });
  const running = new Map<string, Running>();
  const loaded = Promise.withResolvers<Loaded>();
  const exited = Promise.withResolvers<void>();
  let crash: unknown;
  let isLoaded = false;
  let isEnding = false;

  const rejectAll = (why: Error) => {
    for (const { reject } of running.values()) reject(why);
    running.clear();
  };
  const settle = (invocationId: string): Running | undefined => {
    const found = running.get(invocationId);
    running.delete(invocationId);
    return found;
  };
  worker.on('message', (message: WorkerMessage) => {
    switch (message.type) {
      case 'loaded':
        isLoaded = true;
        return loaded.resolve(message);
      case 'not-loaded':
        isEnding = true;
        void worker.terminate();
        return loaded.reject(described(message.failure));
      case 'done':
        return settle(message.invocationId)?.resolve(message.response);
      case 'failed':
        return settle(message.invocationId)?.reject(described(message.failure));
      case 'log':
        return log.write(message.entry);
      case 'terminated':
        isEnding = true;
    }
  });
  worker.on('error', (error) => {
    crash = error;
  });
  worker.on('exit', (code) => {
    const why = new Error(`Worker uncaught exception: the worker ended with ${code}`, {
      cause: crash,
    });
    loaded.reject(why);
    rejectAll(why);
    exited.resolve();
    if (isLoaded && !isEnding) onDeath(thread, why);
  });
  const post = (message: HostMessage) => worker.postMessage(message);
  const thread: Thread = {
    loaded: loaded.promise,
    invoke(functionName, invocation) {
      return new Promise((resolve, reject) => {
        running.set(invocation.invocationId, { resolve, reject });
        post({ type: 'invoke', functionName, invocation });
      });
    },
    end(why) {
      isEnding = true;
      rejectAll(why);
      void worker.terminate();
    },
    async terminate() {
      post({ type: 'terminate' });
      await exited.promise;
    },
  };
  return thread;
}

function described({ message, description }: { message: string; description: string }): Error {
  const error = new Error(message);
  error.stack = description;
  return error;
}
