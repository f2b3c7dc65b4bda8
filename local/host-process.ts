import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface HostProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** Resolves with its exit code once it has ended, for whatever reason. */
  readonly ended: Promise<number | null>;
  stop(): Promise<void>;
}

export interface HostProcessOptions {
  readonly app: string;
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  /** Gets every line it prints. */
  readonly onLine: (line: string) => void;
}

const script = join(import.meta.dirname, 'functions-host/main.ts');

/** Starts the functions host as a child process. @throws Error with its last lines when it ends first */
export async function startHostProcess(options: HostProcessOptions): Promise<HostProcess> {
  const flags = ['--app', options.app, '--port', String(options.port), ...(options.flags ?? [])];
  const child = spawn(process.execPath, [script, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...basics(), ...options.settings },
  });
  const tail: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue;
    createInterface({ input: stream }).on('line', (line) => {
      tail.push(line);
      if (tail.length > 40) tail.shift();
      options.onLine(line);
    });
  }
  const ended = once(child, 'close').then(([code]) => code as number | null);
  const url = await Promise.race([
    once(child, 'message').then(([message]) => String((message as { url: unknown }).url)),
    ended.then((code) => {
      throw new Error(`the functions host ended with ${code}:\n${tail.join('\n')}`);
    }),
  ]);
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  return { url, child, ended, stop };
}

/** What any process needs; the rest of this shell's settings stays outside. */
function basics(): Record<string, string> {
  const names = ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'SystemRoot', 'LANG'];
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])),
  );
}
