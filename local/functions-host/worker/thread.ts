import { parentPort, workerData } from 'node:worker_threads';
import { describeError, messageOf } from '../log.ts';
import { createCoreApi } from './core-api.ts';
import { type LoadedApp, loadApp } from './load.ts';
import { listenOnLoopback } from './loopback.ts';
import type {
  Failure,
  HostMessage,
  RpcInvocation,
  WorkerLogEntry,
  WorkerMessage,
} from './protocol.ts';
import { runHandler } from './run.ts';

// What this thread runs: the app, as the language worker process of the real host would. Started by
// ../workers.ts with the app's folder as its data.

if (parentPort === null) throw new Error('thread.ts is the worker of the functions host');
const port = parentPort;
const post = (message: WorkerMessage) => port.postMessage(message);
const log = (entry: WorkerLogEntry) => post({ type: 'log', entry });

async function load(): Promise<LoadedApp> {
  const { appDir } = workerData as { appDir: string };
  const core = createCoreApi((level, text) => log({ level, text, category: 'Worker' }));
  const app = await loadApp(appDir, core);
  // As JSON, which is what the real worker sends, so that nothing uncopyable is in it.
  const functions = JSON.parse(
    JSON.stringify(core.registrations().map(({ metadata }) => metadata)),
  );
  post({ type: 'loaded', functions, httpUri: app.httpUri });
  return app;
}

async function invoke(app: LoadedApp, name: string, invocation: RpcInvocation): Promise<void> {
  const { invocationId } = invocation;
  try {
    const registration = app.core.registrations().find(({ metadata }) => metadata.name === name);
    if (registration === undefined) throw new Error(`the app has no function ${name}`);
    const response = await runHandler(app, registration, invocation, log);
    post({ type: 'done', invocationId, response });
  } catch (error) {
    post({ type: 'failed', invocationId, failure: failureOf(error) });
  }
}

async function terminate(app: LoadedApp): Promise<never> {
  for (const hook of app.core.hooks('appTerminate')) {
    try {
      await hook({ hookData: app.hookData });
    } catch (error) {
      const text = `an appTerminate hook failed: ${describeError(error)}`;
      log({ level: 'error', text, category: 'Worker' });
    }
  }
  post({ type: 'terminated' });
  process.exit(0);
}

function failureOf(error: unknown): Failure {
  return { message: messageOf(error), description: describeError(error) };
}

listenOnLoopback();
try {
  const app = await load();
  port.on('message', (message: HostMessage) => {
    if (message.type === 'terminate') void terminate(app);
    else void invoke(app, message.functionName, message.invocation);
  });
} catch (error) {
  post({ type: 'not-loaded', failure: failureOf(error) });
}
