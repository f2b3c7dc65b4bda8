import { afterEach, describe, expect, it, vi } from 'vitest';
import { bootSettings, configFromEnvironment, parseConfig } from '../../src/core/config.ts';

const vaults = [
  { alias: 'main', url: 'https://main.vault.azure.net', purpose: 'main' },
  { alias: 'pending', url: 'https://pending.vault.azure.net', purpose: 'pending' },
];
const environment = {
  AzureWebJobsStorage: 'UseDevelopmentStorage=true',
  KEYTURN_VAULTS: JSON.stringify(vaults),
  KEYTURN_AUTH_ISSUERS: 'https://issuer.example.com/',
  KEYTURN_AUTH_AUDIENCES: 'api://keyturn, other',
  KEYTURN_AUTH_JWKS_URI: 'https://issuer.example.com/keys',
};
const withVaults = (...given: object[]) => ({ KEYTURN_VAULTS: JSON.stringify(given) });

/** The lines of the one message, without its first. */
function faultsOf(changes: Record<string, string | undefined>): string[] {
  try {
    parseConfig({ ...environment, ...changes });
  } catch (error) {
    expect(error).toMatchObject({ code: 'bad_configuration' });
    return String((error as { detail: string }).detail)
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('the configuration', () => {
  it('needs little', () => {
    expect(parseConfig(environment)).toEqual({
      AzureWebJobsStorage: 'UseDevelopmentStorage=true',
      KEYTURN_ROLE: 'all',
      KEYTURN_VAULTS: vaults,
      KEYTURN_POLICIES: { kind: 'storage' },
      KEYTURN_PENDING: { kind: 'vault' },
      KEYTURN_NAMESPACE: 'keyturn',
      KEYTURN_LEASE_SECONDS: 60,
      KEYTURN_RETRY_SECONDS: 2,
      KEYTURN_AUTH_ISSUERS: ['https://issuer.example.com/'],
      KEYTURN_AUTH_AUDIENCES: ['api://keyturn', 'other'],
      KEYTURN_AUTH_JWKS_URI: 'https://issuer.example.com/keys',
      KEYTURN_WEBHOOK_HOSTS: [],
      KEYTURN_SWEEP_SCHEDULE: '0 * * * * *',
      KEYTURN_SCAN_SCHEDULE: '0 17 * * * *',
    });
  });

  it('takes a folder, a sealing key, and an account instead of a connection string', () => {
    const config = parseConfig({
      ...environment,
      AzureWebJobsStorage: undefined,
      AzureWebJobsStorage__accountName: 'account',
      KEYTURN_VAULTS: JSON.stringify(vaults.slice(0, 1)),
      KEYTURN_POLICIES: 'folder:/etc/keyturn',
      KEYTURN_PENDING: 'sealed:main/sealing-key',
      KEYTURN_LEASE_SECONDS: '5',
      KEYTURN_WEBHOOK_HOSTS: ' a.example.com ,,b.example.com',
    });
    expect(config).toMatchObject({
      KEYTURN_POLICIES: { kind: 'folder', path: '/etc/keyturn' },
      KEYTURN_PENDING: { kind: 'sealed', vault: 'main', name: 'sealing-key' },
      KEYTURN_LEASE_SECONDS: 5,
      KEYTURN_WEBHOOK_HOSTS: ['a.example.com', 'b.example.com'],
    });
  });

  it('tells everything that is missing at once', () => {
    const nothing = Object.fromEntries(Object.keys(environment).map((name) => [name, undefined]));
    expect(faultsOf(nothing)).toEqual([
      'KEYTURN_VAULTS: is missing',
      'KEYTURN_AUTH_ISSUERS: is missing',
      'KEYTURN_AUTH_AUDIENCES: is missing',
      'KEYTURN_AUTH_JWKS_URI: is missing',
      'AzureWebJobsStorage: set it, or AzureWebJobsStorage__accountName for an identity',
    ]);
  });

  it.each<[string, Record<string, string>, string]>([
    [
      'keys fetched in the clear',
      { KEYTURN_AUTH_JWKS_URI: 'http://hunter2.example.com/keys' },
      'KEYTURN_AUTH_JWKS_URI: use https; plain http is for loopback hosts only',
    ],
    [
      'a schedule that is none',
      { KEYTURN_SWEEP_SCHEDULE: 'hunter2' },
      'KEYTURN_SWEEP_SCHEDULE: write five or six cron fields, such as 0 * * * * *',
    ],
    [
      'a receiver of telemetry that is no URL',
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'hunter2:4318' },
      'OTEL_EXPORTER_OTLP_ENDPOINT: write an http or https URL',
    ],
    [
      'metrics in no time',
      { OTEL_METRIC_EXPORT_INTERVAL: '0' },
      'OTEL_METRIC_EXPORT_INTERVAL: write a number of milliseconds, 100 or more',
    ],
    [
      'a connection string without its key',
      { APPLICATIONINSIGHTS_CONNECTION_STRING: 'hunter2' },
      'APPLICATIONINSIGHTS_CONNECTION_STRING: write a connection string with InstrumentationKey',
    ],
    ['vaults that are no JSON', { KEYTURN_VAULTS: 'hunter2' }, 'KEYTURN_VAULTS: write JSON'],
    [
      'vaults that are no list',
      { KEYTURN_VAULTS: '"hunter2"' },
      'KEYTURN_VAULTS: Invalid input: expected array, received string',
    ],
    ['no vault', { KEYTURN_VAULTS: '[]' }, 'KEYTURN_VAULTS: list at least one vault'],
    [
      'no main vault',
      withVaults({ ...vaults[1] }),
      'KEYTURN_VAULTS: one vault must have the purpose main',
    ],
    [
      'one alias twice',
      withVaults(...vaults, { ...vaults[0], url: 'https://x.vault.azure.net' }),
      'KEYTURN_VAULTS: aliases must differ',
    ],
    [
      'one vault under two names',
      withVaults(...vaults, { ...vaults[0], alias: 'again', url: 'https://MAIN.vault.azure.net/' }),
      'KEYTURN_VAULTS: urls must differ: a vault has one alias',
    ],
    [
      'an alias too long for document ids',
      withVaults(...vaults, { ...vaults[0], alias: 'a'.repeat(41), url: 'https://x.example.com' }),
      'KEYTURN_VAULTS.2.alias: use 1 to 40 of a-z',
    ],
    [
      'a vault without TLS',
      withVaults({ ...vaults[0], url: 'http://hunter2.example.com' }, vaults[1]!),
      'KEYTURN_VAULTS.0.url: write an https URL',
    ],
    [
      'a URL that is none',
      withVaults({ ...vaults[0], url: 'hunter2' }, vaults[1]!),
      'KEYTURN_VAULTS.0.url: write an https URL',
    ],
    [
      'an unknown purpose',
      withVaults({ ...vaults[0] }, { ...vaults[1], purpose: 'hunter2' }),
      'KEYTURN_VAULTS.1.purpose: Invalid option',
    ],
    [
      'no pending vault',
      withVaults(vaults[0]!),
      'KEYTURN_PENDING: needs one vault with the purpose pending, there are 0',
    ],
    [
      'two pending vaults',
      withVaults(...vaults, { alias: 'p2', url: 'https://p2.example.com', purpose: 'pending' }),
      'KEYTURN_PENDING: needs one vault with the purpose pending, there are 2',
    ],
    [
      'a sealing key nowhere',
      { KEYTURN_PENDING: 'sealed:hunter2/key' },
      'KEYTURN_PENDING: no vault has the alias it names',
    ],
    [
      'a pending store of no kind',
      { KEYTURN_PENDING: 'hunter2' },
      'KEYTURN_PENDING: write vault, or sealed:ALIAS/SECRET',
    ],
    [
      'documents nowhere',
      { KEYTURN_POLICIES: 'hunter2' },
      'KEYTURN_POLICIES: write storage, or folder: and a path',
    ],
    [
      'a lease that is no number',
      { KEYTURN_LEASE_SECONDS: 'hunter2' },
      'KEYTURN_LEASE_SECONDS: write a number of seconds',
    ],
    [
      'a lease of no time',
      { KEYTURN_LEASE_SECONDS: '0' },
      'KEYTURN_LEASE_SECONDS: must be more than 0',
    ],
    [
      'an empty number',
      { KEYTURN_RETRY_SECONDS: '' },
      'KEYTURN_RETRY_SECONDS: must be more than 0',
    ],
    [
      'a namespace no storage takes',
      { KEYTURN_NAMESPACE: 'Hunter2' },
      'KEYTURN_NAMESPACE: use 3 to 24',
    ],
    [
      'an issuer that is no URL',
      { KEYTURN_AUTH_ISSUERS: 'hunter2' },
      'KEYTURN_AUTH_ISSUERS.0: write URLs',
    ],
    ['no issuer', { KEYTURN_AUTH_ISSUERS: ' , ' }, 'KEYTURN_AUTH_ISSUERS: list at least one'],
    ['no audience', { KEYTURN_AUTH_AUDIENCES: '' }, 'KEYTURN_AUTH_AUDIENCES: list at least one'],
    ['keys nowhere', { KEYTURN_AUTH_JWKS_URI: 'hunter2' }, 'KEYTURN_AUTH_JWKS_URI: write a URL'],
    ['an empty identity', { KEYTURN_CLIENT_ID: '' }, 'KEYTURN_CLIENT_ID: is empty'],
    ['a role of its own', { KEYTURN_ROLE: 'hunter2' }, 'KEYTURN_ROLE: write api, engine or all'],
  ])('refuses %s by name, never quoting it', (_what, changes, fault) => {
    const faults = faultsOf(changes);
    expect(faults).toContainEqual(expect.stringContaining(fault));
    expect(faults.join()).not.toContain('hunter2');
  });

  it('tells faults of one setting and between settings together', () => {
    const faults = faultsOf({
      AzureWebJobsStorage: undefined,
      KEYTURN_VAULTS: JSON.stringify(vaults.slice(0, 1)),
      KEYTURN_LEASE_SECONDS: '-1',
      KEYTURN_AUTH_JWKS_URI: undefined,
    });
    expect(faults.map((fault) => fault.split(':')[0])).toEqual([
      'KEYTURN_LEASE_SECONDS',
      'KEYTURN_AUTH_JWKS_URI',
      'AzureWebJobsStorage',
      'KEYTURN_PENDING',
    ]);
  });

  it('takes telemetry settings that are empty for unset', () => {
    const empty = {
      OTEL_EXPORTER_OTLP_ENDPOINT: '',
      APPLICATIONINSIGHTS_CONNECTION_STRING: '',
      AzureFunctionsJobHost__telemetryMode: '',
    };
    expect(parseConfig({ ...environment, ...empty })).toEqual(parseConfig(environment));
  });

  it('comes from the environment', () => {
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    vi.stubEnv('KEYTURN_NAMESPACE', 'elsewhere');
    expect(configFromEnvironment().KEYTURN_NAMESPACE).toBe('elsewhere');
  });
});

describe('what is known before the configuration', () => {
  it('has defaults for everything', () => {
    expect(bootSettings()).toEqual({
      role: 'all',
      queuePrefix: 'keyturn-',
      sweepSchedule: '0 * * * * *',
      scanSchedule: '0 17 * * * *',
    });
  });

  it.each([
    ['api', 'api'],
    ['engine', 'engine'],
    ['all', 'all'],
    ['API', 'all'],
  ])('registers for the role %s as %s', (given, role) => {
    vi.stubEnv('KEYTURN_ROLE', given);
    vi.stubEnv('KEYTURN_NAMESPACE', 'test');
    expect(bootSettings()).toMatchObject({ role, queuePrefix: 'test-' });
  });
});
