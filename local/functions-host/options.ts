import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { parseValue } from './parse.ts';

export const usage = `node local/functions-host/main.ts --app DIR [options]: runs a built Functions app.

  --app DIR                the package as deployed: host.json, package.json, the files its main names
  --port N                 default: Host.LocalHttpPort of local.settings.json, else 7071; 0 is any free one
  --enable-auth            ask for keys as Azure does; needs --master-key
  --master-key KEY         opens everything
  --function-key KEY       opens the routes with authLevel function
  --eventgrid-key KEY      opens the Event Grid webhook (the system key eventgrid_extension)
  --easy-auth JSON         every call comes from this user: {id, name, provider?, claims?: [{typ, val}]}
  --pass-client-principal  let clients send x-ms-client-principal headers, as Azure without Easy Auth does
  --poll-seconds S         longest pause between two looks into a queue (maxPollingInterval)
  --queue-lock-seconds S   how long a received message stays invisible (default 600)
  --timer-lock-seconds S   term of the lock on a timer (default 60)
  --stop-seconds S         how long running invocations may take when the host is stopped (default 10)
  --keep-alive             start the worker again when it ends by itself; without it the host ends too
  --quiet                  print warnings and errors only
  --help                   this text`;

export interface HostOptions {
  readonly appDir: string;
  readonly port: number | null;
  readonly queueLockSeconds: number;
  readonly timerLockSeconds: number;
  readonly pollSeconds: number | null;
  readonly stopSeconds: number;
  readonly enableAuth: boolean;
  readonly masterKey: string | null;
  readonly functionKey: string | null;
  readonly eventGridKey: string | null;
  readonly passClientPrincipal: boolean;
  /** Easy Auth simulation: every call comes from this user; `null` switches it off. */
  readonly easyAuth: EasyAuthUser | null;
  /** Start the worker again when it ends by itself, instead of ending the host. */
  readonly keepAlive: boolean;
  readonly quiet: boolean;
}

const EasyAuthUser = z.strictObject({
  id: z.string(),
  name: z.string(),
  provider: z.string().default('aad'),
  claims: z.array(z.strictObject({ typ: z.string(), val: z.string() })).default([]),
});

type EasyAuthUser = z.output<typeof EasyAuthUser>;

/** The command line as options. @throws Error that names the faulty flag. */
export function parseOptions(args: readonly string[]): HostOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      app: { type: 'string' },
      port: { type: 'string' },
      'queue-lock-seconds': { type: 'string', default: '600' },
      'timer-lock-seconds': { type: 'string', default: '60' },
      'poll-seconds': { type: 'string' },
      'stop-seconds': { type: 'string', default: '10' },
      'enable-auth': { type: 'boolean', default: false },
      'master-key': { type: 'string' },
      'function-key': { type: 'string' },
      'eventgrid-key': { type: 'string' },
      'pass-client-principal': { type: 'boolean', default: false },
      'easy-auth': { type: 'string' },
      'keep-alive': { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.app === undefined) throw new Error('--app DIR is required; --help lists all flags');
  if (values['enable-auth'] && values['master-key'] === undefined) {
    throw new Error('--enable-auth needs --master-key');
  }
  const number = (name: string, text: string | undefined, least: number) =>
    text === undefined ? null : parseNumber(`--${name}`, text, least);
  return {
    appDir: resolve(values.app),
    port: number('port', values.port, 0),
    queueLockSeconds: parseNumber('--queue-lock-seconds', values['queue-lock-seconds'], 1),
    timerLockSeconds: parseNumber('--timer-lock-seconds', values['timer-lock-seconds'], 0.1),
    pollSeconds: number('poll-seconds', values['poll-seconds'], 0.1),
    stopSeconds: parseNumber('--stop-seconds', values['stop-seconds'], 0),
    enableAuth: values['enable-auth'],
    masterKey: values['master-key'] ?? null,
    functionKey: values['function-key'] ?? null,
    eventGridKey: values['eventgrid-key'] ?? null,
    passClientPrincipal: values['pass-client-principal'],
    easyAuth: parseEasyAuth(values['easy-auth']),
    keepAlive: values['keep-alive'],
    quiet: values.quiet,
  };
}

function parseEasyAuth(text: string | undefined): EasyAuthUser | null {
  if (text === undefined) return null;
  try {
    return parseValue('--easy-auth', JSON.parse(text), EasyAuthUser);
  } catch (cause) {
    throw new Error('--easy-auth must be JSON {id, name, provider?, claims?}', { cause });
  }
}

function parseNumber(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isFinite(value) || text.trim() === '' || value < least) {
    throw new Error(`${flag} must be a number of at least ${least}, not "${text}"`);
  }
  return value;
}
