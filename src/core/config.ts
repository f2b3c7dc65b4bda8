import { z } from 'zod';
import { AppError } from './errors.ts';

const Alias = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}$/,
    'use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit',
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
    }),
);

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

const Settings = z
  .object({
    AzureWebJobsStorage: z.string().min(1).optional(),
    AzureWebJobsStorage__accountName: z.string().min(1).optional(),
    KEYTURN_VAULTS: Vaults,
    KEYTURN_POLICIES: PolicySource.prefault('storage'),
    KEYTURN_PENDING: Pending.prefault('vault'),
    KEYTURN_CLIENT_ID: z.string().min(1).optional(),
    KEYTURN_NAMESPACE: z
      .string()
      .regex(/^[a-z][a-z0-9]{2,23}$/, 'use 3 to 24 of a-z and 0-9, beginning with a letter')
      .default('keyturn'),
    KEYTURN_LEASE_SECONDS: Seconds.default(60),
    KEYTURN_RETRY_SECONDS: Seconds.default(2),
    KEYTURN_AUTH_ISSUERS: List.pipe(z.array(z.url()).min(1, 'list at least one issuer')),
    KEYTURN_AUTH_AUDIENCES: List.pipe(z.array(z.string()).min(1, 'list at least one audience')),
    KEYTURN_AUTH_JWKS_URI: z.url('write a URL'),
    KEYTURN_WEBHOOK_HOSTS: List.prefault(''),
  })
  .superRefine((settings, context) => {
    const fault = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (!settings.AzureWebJobsStorage && !settings.AzureWebJobsStorage__accountName) {
      fault('AzureWebJobsStorage', 'set it, or AzureWebJobsStorage__accountName for an identity');
    }
    const pending = settings.KEYTURN_PENDING;
    const vaults = settings.KEYTURN_VAULTS;
    const count = vaults.filter((vault) => vault.purpose === 'pending').length;
    if (pending.kind === 'vault' && count !== 1) {
      fault('KEYTURN_PENDING', `needs one vault with the purpose pending, there are ${count}`);
    }
    if (pending.kind === 'sealed' && !vaults.some((vault) => vault.alias === pending.vault)) {
      fault('KEYTURN_PENDING', `no vault has the alias ${pending.vault}`);
    }
  });

export type Config = z.output<typeof Settings>;

/**
 * Every setting of the app, parsed. Where each comes from and what it means: docs/runbook.md.
 * @throws AppError `bad_configuration` that lists every fault, one line each, without values
 */
export function parseConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const parsed = Settings.safeParse(environment);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${cure(issue)}`);
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
  const role = process.env['KEYTURN_ROLE'];
  return {
    role: role === 'api' || role === 'engine' ? role : 'all',
    queuePrefix: `${process.env['KEYTURN_NAMESPACE'] ?? 'keyturn'}-`,
    sweepSchedule: process.env['KEYTURN_SWEEP_SCHEDULE'] ?? '0 * * * * *',
    scanSchedule: process.env['KEYTURN_SCAN_SCHEDULE'] ?? '0 17 * * * *',
  };
}

function cure(issue: z.core.$ZodIssue): string {
  const isMissing = issue.code === 'invalid_type' && issue.input === undefined;
  return isMissing ? 'is missing' : issue.message;
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
