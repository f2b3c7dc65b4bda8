import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from './log.ts';
import { isRecord, parseValue, readJson } from './parse.ts';

// As .NET writes them when Core Tools read the file into a dictionary of strings.
const Text = z.union(
  [
    z.string(),
    z.number().transform(String),
    z.boolean().transform((value) => (value ? 'True' : 'False')),
  ],
  { error: 'must be text; write objects and lists as JSON in quotes' },
);

const ConnectionString = z.union([
  z.string(),
  z.object({ ConnectionString: z.string() }).transform((entry) => entry.ConnectionString),
]);

const LocalSettings = z.looseObject({
  // Core Tools treat a missing flag as encrypted; we cannot decrypt, so both are refused.
  IsEncrypted: z.literal(false, {
    error: 'must be present and false; `func settings decrypt` decrypts the file',
  }),
  Values: z.record(z.string(), Text).default({}),
  ConnectionStrings: z.record(z.string(), ConnectionString).default({}),
  Host: z
    .looseObject({
      LocalHttpPort: z.coerce.number().int().min(0).max(65_535).optional(),
      LocalHttpAddress: z
        .enum(['127.0.0.1', 'localhost'], {
          error: 'only 127.0.0.1 is listened on; remove it',
        })
        .optional(),
      CORS: z.string().optional(),
      CORSCredentials: z.boolean().optional(),
    })
    .default({}),
});

const known = ['IsEncrypted', 'Values', 'ConnectionStrings', 'Host'];
const knownOfHost = ['LocalHttpPort', 'LocalHttpAddress', 'CORS', 'CORSCredentials'];

export interface LocalHostSettings {
  readonly port: number | null;
  readonly corsOrigins: readonly string[];
  readonly corsCredentials: boolean;
}

/**
 * Puts `Values` and `ConnectionStrings` of the app's local.settings.json into the environment,
 * where existing variables win. Source: azure-functions-core-tools, StartHostAction.
 */
export function applyLocalSettings(
  appDir: string,
  env: NodeJS.ProcessEnv,
  log: Log,
): LocalHostSettings {
  const file = join(appDir, 'local.settings.json');
  if (!existsSync(file)) return { port: null, corsOrigins: [], corsCredentials: false };
  const settings = parseValue(file, spelled(file, readJson(file), log), LocalSettings);
  for (const [name, value] of Object.entries(settings.Values)) env[name] ??= value;
  for (const [name, value] of Object.entries(settings.ConnectionStrings)) {
    env[`ConnectionStrings:${name}`] ??= value;
  }
  const origins = settings.Host.CORS?.split(',').map((origin) => origin.trim()) ?? [];
  return {
    port: settings.Host.LocalHttpPort ?? null,
    corsOrigins: origins.filter((origin) => origin !== ''),
    corsCredentials: settings.Host.CORSCredentials ?? false,
  };
}

/** The document with its known keys as above; Core Tools ignore their case. */
function spelled(file: string, raw: unknown, log: Log): unknown {
  const respell = (value: unknown, names: readonly string[], path: string): unknown => {
    if (!isRecord(value)) return value;
    const entries = Object.entries(value).map(([name, member]) => {
      const found = names.find((other) => other.toLowerCase() === name.toLowerCase());
      if (found === undefined) log.warn(`${file}: ${path}${name} is unknown, ignored`);
      return [found ?? name, member] as const;
    });
    return Object.fromEntries(entries);
  };
  const settings = respell(raw, known, '');
  if (!isRecord(settings) || !isRecord(settings['Host'])) return settings;
  return { ...settings, Host: respell(settings['Host'], knownOfHost, 'Host.') };
}
