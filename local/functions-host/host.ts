import { randomUUID } from 'node:crypto';
import { serveAdmin, urlOf } from './admin.ts';
import { checkFunctions, type LoadedFunction } from './functions.ts';
import { type HostConfig, readHostConfig } from './host-json.ts';
import { createHttpFunctions } from './http.ts';
import { createInvoker, type Invoker } from './invoke.ts';
import { applyLocalSettings } from './local-settings.ts';
import { type Log, messageOf } from './log.ts';
import type { HostOptions } from './options.ts';
import { createOutputs } from './outputs.ts';
import { type Listener, listenToQueue } from './queues.ts';
import { type HttpServer, startServer } from './server.ts';
import { connectionString } from './settings.ts';
import { createStorage, type HostStorage } from './storage.ts';
import { pause } from './time.ts';
import { listenToTimer } from './timers.ts';
import { serveEventGrid } from './webhooks.ts';
import { startWorkers, type Workers } from './workers.ts';

export interface Host {
  readonly url: string;
  readonly functions: readonly FunctionSummary[];
  /** Listeners first, then HTTP, running invocations, `appTerminate` hooks, locks. Never rejects. */
  stop(): Promise<void>;
}

interface FunctionSummary {
  readonly name: string;
  readonly trigger: 'http' | 'timer' | 'queue' | 'eventGrid';
  readonly methods?: readonly string[];
  readonly url?: string;
  readonly schedule?: string;
  readonly queueName?: string;
}

interface Running {
  readonly workers: Workers;
  readonly invoker: Invoker;
  readonly server: HttpServer;
  readonly listeners: readonly Listener[];
  readonly log: Log;
  readonly stopMs: number;
}

/**
 * Loads the app in `options.appDir` and serves it. `onEnd` is told when it can run nothing any more.
 * @throws Error when it cannot be served
 */
export async function startHost(
  options: HostOptions,
  log: Log,
  onEnd: (error: Error) => void,
): Promise<Host> {
  const local = applyLocalSettings(options.appDir, process.env, log);
  const server = await startServer(options.port ?? local.port ?? 7071, log);
  setEnvironment(options, server.url, log);
  const config = readHostConfig(options.appDir, process.env, log);
  log.setLevels(config.logLevels);
  process.chdir(options.appDir);
  const { appDir, keepAlive } = options;
  const workers = await startWorkers({ appDir, keepAlive, log, onEnd });
  const functions = checkFunctions(chosen(workers, config), process.env, log);
  const storage = createStorage(options.appDir, process.env);
  checkConnections(functions);
  const invoker = createInvoker({
    workers,
    log,
    timeoutMs: config.functionTimeoutMs,
    deliverOutputs: createOutputs(storage, config.queues.messageEncoding),
  });
  const identity = { hostId: storage.hostId, baseUrl: server.url };
  const deps = { functions, workers, invoker, log, options, config, ...identity };
  const serveFunctions = createHttpFunctions(deps);
  server.serve(
    async (call) => {
      const path = call.url.pathname.toLowerCase();
      if (path === '/admin' || path.startsWith('/admin/')) return serveAdmin(deps, call);
      if (path === '/runtime/webhooks/eventgrid') return serveEventGrid(deps, call);
      return serveFunctions(call);
    },
    { ...local, customHeaders: config.http.customHeaders },
  );
  const listeners = await startListeners(deps, storage);
  const running = { workers, invoker, server, listeners, log, stopMs: options.stopSeconds * 1000 };
  return {
    url: server.url,
    functions: functions.map((fn) => summarize(deps, fn)),
    stop: () => stopHost(running),
  };
}

function chosen({ functions }: Workers, { functions: wanted }: HostConfig) {
  return functions.filter(({ name }) => wanted === null || wanted.includes(name));
}

function setEnvironment(options: HostOptions, url: string, log: Log): void {
  const { env } = process;
  const runtime = env['FUNCTIONS_WORKER_RUNTIME'] ?? 'node';
  if (runtime !== 'node') {
    throw new Error(
      `FUNCTIONS_WORKER_RUNTIME is "${runtime}": only Node.js apps run here; set node`,
    );
  }
  for (const name of ['FUNCTIONS_WORKER_PROCESS_COUNT', 'languageWorkers__node__arguments']) {
    if (env[name] !== undefined) log.warn(`${name} has no effect locally: there is one worker`);
  }
  env['AZURE_FUNCTIONS_ENVIRONMENT'] = 'Development';
  env['FUNCTIONS_WORKER_RUNTIME'] = runtime;
  env['AzureWebJobsScriptRoot'] = options.appDir;
  env['WEBSITE_HOSTNAME'] = new URL(url).host;
  if (options.easyAuth !== null) env['WEBSITE_AUTH_ENABLED'] = 'True';
}

// Clients are made on first use; a missing connection must stop the start, not the first message.
function checkConnections(functions: readonly LoadedFunction[]): void {
  const faults: string[] = [];
  for (const fn of functions) {
    try {
      if (fn.trigger.type === 'timer') connectionString(undefined, process.env);
      if (fn.trigger.type === 'queue') connectionString(fn.trigger.connection, process.env);
      for (const connection of outputConnections(fn)) connectionString(connection, process.env);
    } catch (error) {
      faults.push(`function '${fn.name}': ${messageOf(error)}`);
    }
  }
  if (faults.length > 0) throw new Error(faults.join('; '));
}

function outputConnections(fn: LoadedFunction): readonly (string | undefined)[] {
  return Object.values(fn.metadata.bindings)
    .filter(({ direction, type }) => direction === 'out' && type.toLowerCase() === 'queue')
    .map(({ connection }) => (typeof connection === 'string' ? connection : undefined));
}

interface ListenerDependencies {
  readonly functions: readonly LoadedFunction[];
  readonly invoker: Invoker;
  readonly log: Log;
  readonly options: HostOptions;
  readonly config: HostConfig;
}

async function startListeners(
  deps: ListenerDependencies,
  storage: HostStorage,
): Promise<readonly Listener[]> {
  const { options, config } = deps;
  const polling =
    options.pollSeconds === null ? {} : { maxPollingIntervalMs: options.pollSeconds * 1000 };
  const queue = {
    ...deps,
    storage,
    settings: { ...config.queues, ...polling },
    lockSeconds: options.queueLockSeconds,
  };
  const timer = {
    ...deps,
    storage,
    lockSeconds: options.timerLockSeconds,
    instanceId: randomUUID(),
  };
  const listeners: Listener[] = [];
  for (const fn of deps.functions) {
    if (fn.disabled) continue;
    if (fn.trigger.type === 'queue') listeners.push(listenToQueue(queue, fn));
    if (fn.trigger.type === 'timer') listeners.push(await listenToTimer(timer, fn));
  }
  return listeners;
}

function summarize(
  deps: { readonly config: HostConfig; readonly baseUrl: string },
  fn: LoadedFunction,
): FunctionSummary {
  const { name, trigger } = fn;
  switch (trigger.type) {
    case 'http':
      return { name, trigger: 'http', methods: trigger.methods, url: urlOf(deps, fn) };
    case 'timer':
      return { name, trigger: 'timer', schedule: trigger.schedule.text };
    case 'queue':
      return { name, trigger: 'queue', queueName: trigger.queueName };
    case 'eventGrid':
      return {
        name,
        trigger: 'eventGrid',
        url: `${deps.baseUrl}/runtime/webhooks/eventgrid?functionName=${encodeURIComponent(name)}`,
      };
  }
}

async function stopHost(running: Running): Promise<void> {
  const { workers, invoker, server, listeners, log, stopMs } = running;
  const limit = new AbortController();
  const deadline = pause(stopMs, limit.signal);
  invoker.stopRetrying();
  const closed = server.close();
  // Timers release their locks here, but only once their own run has ended.
  const stopped = Promise.all(listeners.map((listener) => listener.stop()));
  const work = Promise.all([closed, stopped]).then(() => invoker.drain(stopMs));
  const finished = await Promise.race([work, deadline.then(() => false)]);
  limit.abort();
  if (!finished) log.warn(`invocations still ran after ${stopMs} ms; they are abandoned`);
  server.kill();
  await workers.stop();
}
