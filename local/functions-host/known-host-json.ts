import { isRecord } from './parse.ts';

/**
 * What becomes of a key of host.json here: it is `applied`; it is `silent`, because what it sets has
 * no counterpart on one machine; or it has no effect and the user is told why, unless it is off.
 */
type Known = 'applied' | 'silent' | { readonly why: string } | { readonly keys: KnownKeys };
type KnownKeys = Readonly<Record<string, Known>>;

const otherTrigger = { why: 'this local host has no triggers or bindings of that kind' };

// Source: the host.json reference of Azure Functions 2.x and later.
const knownKeys: KnownKeys = {
  version: 'applied',
  functionTimeout: 'applied',
  functions: 'applied',
  customHandler: 'applied',
  extensionBundle: 'silent',
  aggregator: 'silent',
  healthMonitor: 'silent',
  managedDependency: 'silent',
  telemetryMode: 'silent',
  sendCanceledInvocationsToWorker: 'silent',
  concurrency: {
    keys: {
      dynamicConcurrencyEnabled: { why: 'batchSize and newBatchThreshold stay as they are' },
      snapshotPersistenceEnabled: 'silent',
    },
  },
  retry: { why: 'Azure removed it; set a retry policy on the function itself' },
  singleton: { why: '--timer-lock-seconds sets the term of a timer’s lock' },
  watchDirectories: { why: 'files are not watched; start the host again' },
  watchFiles: { why: 'files are not watched; start the host again' },
  logging: {
    keys: {
      logLevel: 'applied',
      applicationInsights: 'silent',
      console: { keys: { isEnabled: 'silent', disableColors: 'silent' } },
      fileLoggingMode: 'silent',
      debugConsole: 'silent',
    },
  },
  extensions: {
    keys: {
      http: {
        keys: {
          routePrefix: 'applied',
          maxOutstandingRequests: 'applied',
          maxConcurrentRequests: 'applied',
          customHeaders: 'applied',
          dynamicThrottlesEnabled: { why: 'it measures what only Azure’s sandbox limits' },
          // Sent over https alone, and this host speaks http.
          hsts: 'silent',
        },
      },
      queues: {
        keys: {
          batchSize: 'applied',
          newBatchThreshold: 'applied',
          maxDequeueCount: 'applied',
          visibilityTimeout: 'applied',
          maxPollingInterval: 'applied',
          messageEncoding: 'applied',
        },
      },
      eventGrid: 'silent',
      blobs: otherTrigger,
      cosmosDB: otherTrigger,
      durableTask: otherTrigger,
      eventHubs: otherTrigger,
      kafka: otherTrigger,
      mcp: otherTrigger,
      sendGrid: otherTrigger,
      serviceBus: otherTrigger,
      signalR: otherTrigger,
      tables: otherTrigger,
      warmup: otherTrigger,
    },
  },
};

export interface Sorted {
  /** The document with its known keys in the spelling of the reference; .NET ignores their case. */
  readonly value: unknown;
  /** One sentence for each key that has no effect and should have. */
  readonly warnings: readonly string[];
}

/** Compares a parsed host.json with what is known of it. */
export function sortHostJson(raw: unknown): Sorted {
  const warnings: string[] = [];
  return { value: sort(raw, knownKeys, '', warnings), warnings };
}

function sort(value: unknown, keys: KnownKeys, path: string, warnings: string[]): unknown {
  if (!isRecord(value)) return value;
  const sorted: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(value)) {
    const known = Object.keys(keys).find((key) => key.toLowerCase() === name.toLowerCase());
    const fate = known === undefined ? undefined : keys[known];
    if (known === undefined || fate === undefined) {
      warnings.push(`${path}${name} is unknown, ignored`);
    } else if (typeof fate !== 'object') {
      sorted[known] = member;
    } else if ('keys' in fate) {
      sorted[known] = sort(member, fate.keys, `${path}${known}.`, warnings);
    } else if (isOn(member)) {
      warnings.push(`${path}${known} has no effect locally: ${fate.why}`);
    }
  }
  return sorted;
}

function isOn(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return value !== null && String(value).toLowerCase() !== 'false';
}
