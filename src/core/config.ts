import { z } from 'zod';
import { AppError } from './errors.ts';

/** Short, because it is part of document ids, which also hold an object's name of up to 127. */
const Alias = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,39}$/,
    'use 1 to 40 of a-z, 0-9 and -, beginning with a letter or digit',
  );
const Url = z.url({ protocol: /^https$/, error: 'write an https URL' });
const Seconds = z.coerce.number('write a number of seconds').positive('must be more than 0');

const Vaults = json(
  z
    .array(
      z.strictObject({
        alias: Alias,
        url: Url,
        purpose: z.enum(['main', 'pending', 'replica', 'scratch']),
      }),
    )
    .min(1, 'list at least one vault')
    .refine((vaults) => vaults.some((vault) => vault.purpose === 'main'), {
      message: 'one vault must have the purpose main',
    })
    .refine((vaults) => new Set(vaults.map((vault) => vault.alias)).size === vaults.length, {
      message: 'aliases must differ',
    })
    // Two names for one vault would let two rotations have one object.
    .refine((vaults) => new Set(vaults.map(originOf)).size === vaults.length, {
      message: 'urls must differ: a vault has one alias',
    }),
);

function originOf({ url }: { readonly url: string }): string {
  return URL.parse(url)?.origin ?? url;
}

/** `storage`, or `folder:PATH`. */
const PolicySource = z
  .string()
  .regex(/^(storage|folder:.+)$/, 'write storage, or folder: and a path')
  .transform((text) =>
    text === 'storage'
      ? { kind: 'storage' as const }
      : { kind: 'folder' as const, path: text.slice('folder:'.length) },
  );

/** `vault`: the vault whose purpose is pending. `sealed:ALIAS/SECRET`: in the journal, under that key. */
const Pending = z
  .string()
  .regex(/^(vault|sealed:[a-z0-9-]+\/[0-9a-zA-Z-]+)$/, 'write vault, or sealed:ALIAS/SECRET')
  .transform((text) => {
    const [, alias, name] = /^sealed:(.+)\/(.+)$/.exec(text) ?? [];
    return alias && name
      ? { kind: 'sealed' as const, vault: alias, name }
      : { kind: 'vault' as const };
  });

const List = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);

/** Keys by which callers are believed: whoever can change them on the way could be anybody. */
const KeysUrl = z
  .url('write a URL')
  .refine((url) => /^https:|^http:\/\/(localhost|127\.0\.0\.1|\[::1\])[:/]/.test(url), {
    message: 'use https; plain http is for loopback hosts only',
  });

/** As text: what else reads it, reads it from the environment. */
const Milliseconds = z
  .string()
  .regex(/^[1-9][0-9]{2,7}$/, 'write a number of milliseconds, 100 or more');

/** The platform and OpenTelemetry take what is empty for unset. */
function orEmpty(schema: z.ZodType<string, string>) {
  return z.preprocess((given) => (given === '' ? undefined : given), schema.optional());
}

/** NCRONTAB: five or six fields. */
const Schedule = z
  .string()
  .regex(/^[^\s]+( [^\s]+){4,5}$/, 'write five or six cron fields, such as 0 * * * * *');

const Role = z.enum(['api', 'engine', 'all'], { error: 'write api, engine or all' });

const defaultSchedules = { sweep: '0 * * * * *', scan: '0 17 * * * *' } as const;

const Settings = z
  .object({
    AzureWebJobsStorage: z.string().min(1, 'is empty').optional(),
    AzureWebJobsStorage__accountName: z.string().min(1, 'is empty').optional(),
    KEYTURN_ROLE: Role.default('all'),
    KEYTURN_VAULTS: Vaults,
    KEYTURN_POLICIES: PolicySource.prefault('storage'),
    KEYTURN_PENDING: Pending.prefault('vault'),
    KEYTURN_CLIENT_ID: z.string().min(1, 'is empty').optional(),
    KEYTURN_NAMESPACE: z
      .string()
      .regex(/^[a-z][a-z0-9]{2,23}$/, 'use 3 to 24 of a-z and 0-9, beginning with a letter')
      .default('keyturn'),
    KEYTURN_LEASE_SECONDS: Seconds.default(60),
    KEYTURN_RETRY_SECONDS: Seconds.default(2),
    KEYTURN_AUTH_ISSUERS: List.pipe(z.array(z.url('write URLs')).min(1, 'list at least one')),
    KEYTURN_AUTH_AUDIENCES: List.pipe(z.array(z.string()).min(1, 'list at least one')),
    KEYTURN_AUTH_JWKS_URI: KeysUrl,
    KEYTURN_WEBHOOK_HOSTS: List.prefault(''),
    KEYTURN_SWEEP_SCHEDULE: Schedule.default(defaultSchedules.sweep),
    KEYTURN_SCAN_SCHEDULE: Schedule.default(defaultSchedules.scan),
    OTEL_EXPORTER_OTLP_ENDPOINT: orEmpty(
      z.url({ protocol: /^https?$/, error: 'write an http or https URL' }),
    ),
    OTEL_EXPORTER_OTLP_TIMEOUT: orEmpty(Milliseconds),
    OTEL_METRIC_EXPORT_INTERVAL: orEmpty(Milliseconds),
    OTEL_SERVICE_NAME: orEmpty(z.string()),
    OTEL_TRACES_SAMPLER: orEmpty(z.string()),
    APPLICATIONINSIGHTS_CONNECTION_STRING: orEmpty(
      z.string().regex(/InstrumentationKey=/i, 'write a connection string with InstrumentationKey'),
    ),
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: orEmpty(z.string()),
    AzureFunctionsJobHost__telemetryMode: orEmpty(z.string()),
    WEBSITE_SITE_NAME: orEmpty(z.string()),
    WEBSITE_INSTANCE_ID: orEmpty(z.string()),
  })
  .superRefine(checkStorage, { when: () => true })
  .superRefine(checkPending, { when: ({ value }) => Pair.safeParse(value).success });

/** What the settings above are when they were parsed one by one; others may still be at fault. */
const Pair = z.object({ KEYTURN_VAULTS: z.array(z.object({})), KEYTURN_PENDING: z.object({}) });

type Faults = { addIssue(issue: { code: 'custom'; path: string[]; message: string }): void };

function checkStorage(
  given: {
    readonly AzureWebJobsStorage?: unknown;
    readonly AzureWebJobsStorage__accountName?: unknown;
  },
  faults: Faults,
): void {
  if (given.AzureWebJobsStorage !== undefined) return;
  if (given.AzureWebJobsStorage__accountName !== undefined) return;
  const message = 'set it, or AzureWebJobsStorage__accountName for an identity';
  faults.addIssue({ code: 'custom', path: ['AzureWebJobsStorage'], message });
}

function checkPending(
  given: {
    readonly KEYTURN_VAULTS: z.output<typeof Vaults>;
    readonly KEYTURN_PENDING: z.output<typeof Pending>;
  },
  faults: Faults,
): void {
  const { KEYTURN_VAULTS: vaults, KEYTURN_PENDING: pending } = given;
  const fault = (message: string) =>
    faults.addIssue({ code: 'custom', path: ['KEYTURN_PENDING'], message });
  const count = vaults.filter((vault) => vault.purpose === 'pending').length;
  if (pending.kind === 'vault' && count !== 1) {
    fault(`needs one vault with the purpose pending, there are ${count}`);
  }
  if (pending.kind === 'sealed' && !vaults.some((vault) => vault.alias === pending.vault)) {
    fault('no vault has the alias it names');
  }
}

export type Config = z.output<typeof Settings>;

/**
 * Every setting of the app, parsed. Where each comes from and what it means: docs/runbook.md.
 * @throws AppError `bad_configuration` that lists every fault, one line each, without values
 */
export function parseConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const parsed = Settings.safeParse(environment);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ code, path, message }) => {
    const isMissing = code === 'invalid_type' && environment[String(path[0])] === undefined;
    return `  ${path.join('.')}: ${isMissing ? 'is missing' : message}`;
  });
  throw new AppError('bad_configuration', { detail: `settings to mend:\n${faults.join('\n')}` });
}

export function configFromEnvironment(): Config {
  return parseConfig(process.env);
}

/** What must be known to register functions, before and without the rest of the settings. */
export function bootSettings(): {
  readonly role: 'api' | 'engine' | 'all';
  readonly queuePrefix: string;
  readonly sweepSchedule: string;
  readonly scanSchedule: string;
} {
  return {
    // A role that is none is told by `parseConfig`, which stops the worker before it serves.
    role: Role.catch('all').parse(process.env['KEYTURN_ROLE']),
    queuePrefix: `${process.env['KEYTURN_NAMESPACE'] ?? 'keyturn'}-`,
    sweepSchedule: process.env['KEYTURN_SWEEP_SCHEDULE'] ?? defaultSchedules.sweep,
    scanSchedule: process.env['KEYTURN_SCAN_SCHEDULE'] ?? defaultSchedules.scan,
  };
}

function json<T extends z.ZodType>(schema: T) {
  return z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: 'custom', message: 'write JSON' });
        return z.NEVER;
      }
    })
    .pipe(schema);
}
