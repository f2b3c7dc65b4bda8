import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { parseTimeSpan } from './time.ts';

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
export function parseOptions(args: readonly string[]): HostOptions {
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
      quiet: { type: 'boolean', default: false },
    },
  });
  if (values.app === undefined) throw new Error('--app DIR is required');
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

const LocalSettings = z.looseObject({
  // Core Tools treat a missing flag as encrypted; we cannot decrypt, so both are refused.
  IsEncrypted: z.literal(false, { error: 'must be present and false' }),
  Values: z.record(z.string(), z.string()).default({}),
  Host: z
    .looseObject({
      LocalHttpPort: z.number().optional(),
      CORS: z.string().optional(),
      CORSCredentials: z.boolean().optional(),
    })
    .default({}),
});

export interface LocalHostSettings {
  readonly port: number | null;
  readonly corsOrigins: readonly string[];
  readonly corsCredentials: boolean;
}

/** Puts `Values` of the app's local.settings.json into the environment (existing variables win). */
export function applyLocalSettings(appDir: string, env: NodeJS.ProcessEnv): LocalHostSettings {
  const file = join(appDir, 'local.settings.json');
  if (!existsSync(file)) return { port: null, corsOrigins: [], corsCredentials: false };
  const settings = parseFile(file, LocalSettings);
  for (const [name, value] of Object.entries(settings.Values)) env[name] ??= value;
  const origins = settings.Host.CORS?.split(',').map((origin) => origin.trim()) ?? [];
  return {
    port: settings.Host.LocalHttpPort ?? null,
    corsOrigins: origins.filter((origin) => origin !== ''),
    corsCredentials: settings.Host.CORSCredentials ?? false,
  };
}

const TimeSpan = z.string().transform((text, context) => {
  const ms = parseTimeSpan(text);
  if (ms === null) context.addIssue({ code: 'custom', message: `"${text}" is not hh:mm:ss` });
  return ms ?? 0;
});

const FunctionTimeout = z.union([z.literal('-1').transform(() => null), TimeSpan]);

const Http = z.looseObject({
  routePrefix: z.string().default('api'),
  maxOutstandingRequests: z.coerce.number().int().default(-1),
  customHeaders: z.record(z.string(), z.string()).default({}),
});

const Queues = z.looseObject({
  batchSize: z.coerce.number().int().min(1).max(32).default(16),
  newBatchThreshold: z.coerce.number().int().min(0).optional(),
  maxDequeueCount: z.coerce.number().int().min(1).default(5),
  visibilityTimeout: TimeSpan.default(0),
  // The real default is one minute, but 2 s in Development, which a local host always is.
  maxPollingInterval: TimeSpan.default(2000),
  messageEncoding: z
    .string()
    .transform((text) => text.toLowerCase())
    .pipe(z.enum(['base64', 'none']))
    .default('base64'),
});

const HostJson = z.looseObject({
  version: z.literal('2.0', { error: 'must be exactly "2.0"' }),
  functionTimeout: FunctionTimeout.default(1_800_000),
  functions: z.preprocess(
    (value) => (typeof value === 'object' && value !== null ? Object.values(value) : value),
    z.array(z.string()).optional(),
  ),
  logging: z.looseObject({ logLevel: z.record(z.string(), z.string()).default({}) }).prefault({}),
  extensions: z.looseObject({ http: Http.prefault({}), queues: Queues.prefault({}) }).prefault({}),
});

export interface QueueSettings {
  readonly batchSize: number;
  readonly newBatchThreshold: number;
  readonly maxDequeueCount: number;
  readonly visibilityTimeoutMs: number;
  readonly maxPollingIntervalMs: number;
  readonly messageEncoding: 'base64' | 'none';
}

export interface HostConfig {
  /** `null` means unbounded. */
  readonly functionTimeoutMs: number | null;
  readonly functions: readonly string[] | null;
  readonly logLevels: Readonly<Record<string, string>>;
  readonly http: {
    readonly routePrefix: string;
    readonly maxOutstandingRequests: number;
    readonly customHeaders: Readonly<Record<string, string>>;
  };
  readonly queues: QueueSettings;
}

/** host.json of the app with the overrides of the environment (`AzureFunctionsJobHost__a__b`). */
export function readHostConfig(appDir: string, env: NodeJS.ProcessEnv): HostConfig {
  const file = join(appDir, 'host.json');
  const raw = readJson(file);
  const config = parseValue(file, applyOverrides(raw, env), HostJson);
  const { http, queues } = config.extensions;
  return {
    functionTimeoutMs: config.functionTimeout,
    functions: config.functions ?? null,
    logLevels: config.logging.logLevel,
    http: { ...http, routePrefix: http.routePrefix.replaceAll(/^\/+|\/+$/g, '') },
    queues: {
      batchSize: queues.batchSize,
      newBatchThreshold:
        queues.newBatchThreshold ?? Math.floor(queues.batchSize / 2) * availableParallelism(),
      maxDequeueCount: queues.maxDequeueCount,
      visibilityTimeoutMs: queues.visibilityTimeout,
      maxPollingIntervalMs: queues.maxPollingInterval,
      messageEncoding: queues.messageEncoding,
    },
  };
}

const overridePrefix = 'azurefunctionsjobhost__';

function applyOverrides(raw: unknown, env: NodeJS.ProcessEnv): unknown {
  if (typeof raw !== 'object' || raw === null) return raw;
  // structuredClone of parsed JSON is again parsed JSON: objects are records.
  const root = structuredClone(raw) as Record<string, unknown>;
  for (const [name, value] of Object.entries(env)) {
    if (!name.toLowerCase().startsWith(overridePrefix)) continue;
    setPath(root, name.slice(overridePrefix.length).split('__'), value);
  }
  return root;
}

function setPath(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let node = root;
  path.forEach((part, index) => {
    const key = Object.keys(node).find((name) => name.toLowerCase() === part.toLowerCase()) ?? part;
    if (index === path.length - 1) {
      node[key] = value;
      return;
    }
    const child = node[key];
    if (typeof child !== 'object' || child === null) node[key] = {};
    node = node[key] as Record<string, unknown>;
  });
}

/** `text` with every `%NAME%` replaced from the environment. @throws Error when a name is unknown. */
export function resolveSettings(text: string, env: NodeJS.ProcessEnv): string {
  return text.replaceAll(/%([^%]+)%/g, (whole, name: string) => {
    const value = env[name];
    if (value === undefined) throw new Error(`'${whole}' does not resolve to a value.`);
    return value;
  });
}

/** The connection string a binding's `connection` names. @throws Error that names the setting. */
export function connectionString(connection: string | undefined, env: NodeJS.ProcessEnv): string {
  const name = connection === undefined || connection === '' ? 'AzureWebJobsStorage' : connection;
  const value = env[`AzureWebJobs${name}`] ?? env[name];
  if (value !== undefined && value !== '') return value;
  const identity = ['accountName', 'queueServiceUri', 'blobServiceUri'].find(
    (part) => env[`${name}__${part}`],
  );
  if (identity !== undefined) {
    throw new Error(
      `${name}__${identity}: identity-based connections are not served locally; set ${name}`,
    );
  }
  throw new Error(`setting ${name} (a storage connection string) is missing`);
}

function parseFile<T extends z.ZodType>(file: string, schema: T): z.output<T> {
  return parseValue(file, readJson(file), schema);
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`${file} cannot be read as JSON`, { cause });
  }
}

function parseValue<T extends z.ZodType>(file: string, value: unknown, schema: T): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.map(
    (issue) => `${issue.path.join('.') || '(root)'}: ${issue.message}`,
  );
  throw new Error(`${file} is not valid: ${faults.join('; ')}`);
}
