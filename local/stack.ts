import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Azurite, startAzurite } from './azurite.ts';
import { type EventGrid, startEventGrid } from './event-grid/event-grid.ts';
import { type Identity, localAudience, startIdentity } from './identity/identity.ts';
import { type KeyVaultEmulator, startKeyVault } from './key-vault/key-vault.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { createLocalCa, type LocalCa } from './tls.ts';

/** Everything the app talks to, running on this machine. */
export interface Stack {
  readonly ca: LocalCa;
  readonly azurite: Azurite;
  readonly identity: Identity;
  readonly postgres: Postgres;
  readonly keyVault: KeyVaultEmulator;
  readonly eventGrid: EventGrid;
  /** Stops all of it, last started first. */
  stop(): Promise<void>;
}

export interface StackOptions {
  readonly dir: string;
  /** Whether state outlives `stop`. */
  readonly keep: boolean;
  /** Absent: any free port. `base` … `base + 6` are used otherwise. */
  readonly basePort?: number;
  readonly nearExpiry?: { readonly leadSeconds: number; readonly delaySeconds: number };
  /** What the vaults' ids start with, where something stands before them; by name. */
  readonly publicUrls?: Readonly<Record<string, string>>;
}

/** The system topic of the vault `main`. */
export const vaultTopic = 'main';

/** Starts all services; when one fails, those that run are stopped and its error is thrown. */
export async function startStack(options: StackOptions): Promise<Stack> {
  await mkdir(options.dir, { recursive: true });
  const stops: (() => Promise<void>)[] = [];
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  const running = async <T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
    const service = await starting;
    stops.push(() => service.stop());
    return service;
  };
  try {
    const services = await startServices(options, running);
    return { ...services, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startServices(
  options: StackOptions,
  running: <T extends { stop(): Promise<void> }>(starting: Promise<T>) => Promise<T>,
): Promise<Omit<Stack, 'stop'>> {
  const { dir, keep, basePort } = options;
  const port = (offset: number) => (basePort === undefined ? {} : { port: basePort + offset });
  const ca = await createLocalCa(join(dir, 'tls'));
  const kept = (name: string) => (keep ? join(dir, name) : undefined);
  const started = await Promise.allSettled([
    running(startAzurite(kept('azurite'))),
    running(startPostgres({ dir: join(dir, 'postgres'), ...port(3) })),
    running(startIdentity({ dir: join(dir, 'identity'), ...port(1) })),
    running(startEventGrid({ dir, ...port(6) })),
  ]);
  // All have settled, so that whatever runs is known and can be stopped.
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  const [azurite, postgres, identity, eventGrid] = started.map((result) =>
    result.status === 'fulfilled' ? result.value : null,
  ) as [Azurite, Postgres, Identity, EventGrid];
  const { jwksUri, issuer } = identity;
  const vault = (name: string, offset: number) => {
    const publicUrl = options.publicUrls?.[name];
    return { name, ...port(offset), ...(publicUrl ? { publicUrl } : {}) };
  };
  const keyVault = await running(
    startKeyVault({
      vaults: [vault('main', 4), vault('pending', 5)],
      ...(basePort === undefined ? {} : { controlPort: basePort + 2 }),
      tls: ca,
      tenantId: identity.tenantId,
      verifyToken: { jwksUri, issuer, audience: 'https://vault.azure.net' },
      ...(options.nearExpiry ? { nearExpiry: options.nearExpiry } : {}),
      ...(keep ? { dataFile: join(dir, 'key-vault.json') } : {}),
      onEvent: (event) => eventGrid.publish(event.data.VaultName, event),
    }),
  );
  return { ca, azurite, identity, postgres, keyVault, eventGrid };
}

/** What of a stack the app is told about. */
export interface StackAddress {
  readonly ca: Pick<LocalCa, 'caFile'>;
  readonly azurite: Pick<Azurite, 'connectionString'>;
  readonly identity: Identity;
  readonly keyVault: Pick<KeyVaultEmulator, 'vaults'>;
}

/** The settings with which the app runs on `stack`: the same names as in Azure. */
export function appSettings(
  stack: StackAddress,
  more: {
    readonly documents: string;
    readonly webhookHosts?: readonly string[];
    readonly overrides?: Readonly<Record<string, string>>;
  },
): Record<string, string> {
  const { identity, azurite, keyVault, ca } = stack;
  const url = (name: string) => keyVault.vaults.find((vault) => vault.name === name)?.url ?? '';
  const vaults = [
    { alias: 'main', url: url('main'), purpose: 'main' },
    { alias: 'pending', url: url('pending'), purpose: 'pending' },
  ];
  return {
    AzureWebJobsStorage: azurite.connectionString,
    FUNCTIONS_WORKER_RUNTIME: 'node',
    IDENTITY_ENDPOINT: identity.managedIdentity.endpoint,
    IDENTITY_HEADER: identity.managedIdentity.header,
    AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential',
    NODE_EXTRA_CA_CERTS: ca.caFile ?? '',
    KEYTURN_VAULTS: JSON.stringify(vaults),
    KEYTURN_POLICIES: `folder:${more.documents}`,
    KEYTURN_AUTH_ISSUERS: identity.issuer,
    KEYTURN_AUTH_AUDIENCES: localAudience,
    KEYTURN_AUTH_JWKS_URI: identity.jwksUri,
    KEYTURN_WEBHOOK_HOSTS: (more.webhookHosts ?? []).join(','),
    ...more.overrides,
  };
}
