import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { sortHostJson } from './known-host-json.ts';
import type { Log } from './log.ts';
import { isRecord, parseValue, readJson } from './parse.ts';
import { parseTimeSpan } from './time.ts';

const TimeSpan = z.string().transform((text, context) => {
  const ms = parseTimeSpan(text);
  if (ms === null) context.addIssue({ code: 'custom', message: `"${text}" is not hh:mm:ss` });
  return ms ?? 0;
});

const FunctionTimeout = z.union([z.literal('-1').transform(() => null), TimeSpan], {
  error: 'must be hh:mm:ss, or "-1" for no limit',
});

// An override comes from the environment, as text.
const Whole = z.coerce.number().int();

const Http = z.looseObject({
  routePrefix: z.string().default('api'),
  maxOutstandingRequests: Whole.default(-1),
  maxConcurrentRequests: Whole.default(-1),
  customHeaders: z.record(z.string(), z.string()).default({}),
});

const Queues = z.looseObject({
  batchSize: Whole.min(1).max(32).default(16),
  newBatchThreshold: Whole.min(0).optional(),
  maxDequeueCount: Whole.min(1).default(5),
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
    (value) => (isRecord(value) ? Object.values(value) : value),
    z.array(z.string()).optional(),
  ),
  logging: z.looseObject({ logLevel: z.record(z.string(), z.string()).default({}) }).prefault({}),
  extensions: z.looseObject({ http: Http.prefault({}), queues: Queues.prefault({}) }).prefault({}),
  customHandler: z
    .undefined({
      error: 'custom handlers are not served, only Node.js apps of the v4 model; remove it',
    })
    .optional(),
});

export interface QueueSettings {
  readonly batchSize: number;
  readonly newBatchThreshold: number;
  readonly maxDequeueCount: number;
  readonly visibilityTimeoutMs: number;
  readonly maxPollingIntervalMs: number;
  readonly messageEncoding: 'base64' | 'none';
}

export interface HttpSettings {
  readonly routePrefix: string;
  /** Calls that wait or run, beyond which the next is refused; below 1 is no limit. */
  readonly maxOutstandingRequests: number;
  /** Calls that run, beyond which the next waits; below 1 is no limit. */
  readonly maxConcurrentRequests: number;
  readonly customHeaders: Readonly<Record<string, string>>;
}

export interface HostConfig {
  /** `null` means unbounded. */
  readonly functionTimeoutMs: number | null;
  /** The only functions to run; `null` means all. */
  readonly functions: readonly string[] | null;
  readonly logLevels: Readonly<Record<string, string>>;
  readonly http: HttpSettings;
  readonly queues: QueueSettings;
}

/**
 * host.json of the app with the overrides of the environment (`AzureFunctionsJobHost__a__b`).
 * Says which settings are unknown or have no effect here. @throws Error that lists every fault
 */
export function readHostConfig(appDir: string, env: NodeJS.ProcessEnv, log: Log): HostConfig {
  const file = join(appDir, 'host.json');
  const { value, warnings } = sortHostJson(applyOverrides(readJson(file), env));
  const config = parseValue(file, value, HostJson);
  for (const warning of warnings) log.warn(`${file}: ${warning}`);
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
  if (!isRecord(raw)) return raw;
  const root = structuredClone(raw);
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
    const child = isRecord(node[key]) ? node[key] : {};
    node[key] = child;
    node = child;
  });
}
