import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface HostProcess {
  readonly url: string;
  readonly ready: {
    readonly functions: readonly { readonly name: string; readonly url?: string }[];
  };
  readonly child: ChildProcess;
  /** Everything printed so far. */
  output(): string;
  /** Asks it to stop and gives its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface HostProcessOptions {
  readonly app: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** The command a host process runs. */
export const hostScript = join(import.meta.dirname, '../../local/functions-host/main.ts');
const started = new Set<ChildProcess>();

/** Starts the real host process on a free port. @throws Error with its output when it ends first */
export async function startHostProcess(options: HostProcessOptions): Promise<HostProcess> {
  const child = spawn(
    process.execPath,
    [hostScript, '--app', options.app, '--port', '0', ...(options.args ?? [])],
    { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], env: { ...process.env, ...options.env } },
  );
  started.add(child);
  child.once('exit', () => started.delete(child));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const ready = await new Promise<HostProcess['ready'] & { url: string }>((resolve, reject) => {
    child.once('message', (message) => resolve(message as HostProcess['ready'] & { url: string }));
    child.once('close', (code) => reject(new Error(`host ended with ${code}: ${output}`)));
  });
  return {
    url: ready.url,
    ready,
    child,
    output: () => output,
    async stop(signal = 'SIGTERM') {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const exited = once(child, 'exit');
      child.kill(signal);
      const [code] = (await exited) as [number | null];
      return code;
    },
  };
}

/** Kills every host process a test left running. */
export async function killHostProcesses(): Promise<void> {
  await Promise.all(
    [...started].map(async (child) => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    }),
  );
}
