import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Identity, startIdentity } from '../identity/identity.ts';
import { createLocalCa, type LocalCa } from '../tls.ts';
import { type KeyVaultEmulator, startKeyVault } from './key-vault.ts';

const usage = `Runs the Key Vault emulator and the local identity service alone.

  npm run emulator -- [options]

  --vault NAME          a vault to serve; repeat for more (default: main)
  --port PORT           port of the first vault (default 8443); the next vaults get the next ports, the control API
                        the port before; 0 takes free ports for everything
  --identity-port PORT  port of the identity service (default 7072)
  --data DIR            keep certificates, keys and vault contents there (default: nothing is kept)
  --help
`;

type Settings = {
  readonly vaults: readonly string[];
  readonly port: number;
  readonly identityPort: number;
  readonly data: string | null;
};

type Running = {
  readonly emulator: KeyVaultEmulator;
  readonly identity: Identity;
  readonly ca: LocalCa;
  readonly stop: () => Promise<void>;
};

function readArguments(): Settings | 'help' {
  const { values } = parseArgs({
    options: {
      vault: { type: 'string', multiple: true, default: ['main'] },
      port: { type: 'string', default: '8443' },
      'identity-port': { type: 'string' },
      data: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const port = parsePort('--port', values.port);
  return {
    vaults: values.vault,
    port,
    identityPort: parsePort('--identity-port', values['identity-port'] ?? (port ? '7072' : '0')),
    data: values.data === undefined ? null : resolve(values.data),
  };
}

function parsePort(option: string, text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > 65_535) throw new Error(`${option} takes a port, not "${text}".`);
  return port;
}

async function run(settings: Settings): Promise<Running> {
  const { vaults, port, data } = settings;
  // Clients want the CA as a file, so there is a directory even when nothing is kept.
  const dir = data ?? (await mkdtemp(join(tmpdir(), 'keyturn-emulator-')));
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const stopPart of stops.toReversed()) await stopPart();
  };
  if (data === null) stops.push(() => rm(dir, { recursive: true, force: true }));
  try {
    const ca = await createLocalCa(dir);
    const kept = data === null ? {} : { dir };
    const identity = await startIdentity({ port: settings.identityPort, ...kept });
    stops.push(identity.stop);
    const { jwksUri, issuer, tenantId } = identity;
    const emulator = await startKeyVault({
      vaults: vaults.map((name, index) => ({ name, port: port && port + index })),
      controlPort: port && port - 1,
      tls: ca,
      tenantId,
      verifyToken: { jwksUri, issuer, audience: 'https://vault.azure.net' },
      onEvent: ({ eventType, data: { VaultName, ObjectName, Version } }) =>
        console.log(`event ${eventType} ${VaultName}/${ObjectName}/${Version}`),
      ...(data === null ? {} : { dataFile: join(dir, 'key-vault.json') }),
    });
    stops.push(emulator.stop);
    return { emulator, identity, ca, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function describe({ emulator, identity, ca }: Running): string {
  const lines = emulator.vaults.map(({ name, url }) => `vault ${name}: ${url}`);
  return `${lines.join('\n')}
control API: ${emulator.controlUrl}
identity: ${identity.url}
CA certificate: ${ca.caFile}

For a program that uses an Azure SDK with DefaultAzureCredential, and with disableChallengeResourceVerification:

export AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential
export IDENTITY_ENDPOINT=${identity.managedIdentity.endpoint}
export IDENTITY_HEADER=${identity.managedIdentity.header}
export NODE_EXTRA_CA_CERTS=${ca.caFile}

Ctrl-C stops it.`;
}

function fail(error: unknown, exitCode: number): void {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = exitCode;
}

async function main(): Promise<void> {
  let settings: Settings | 'help';
  try {
    settings = readArguments();
  } catch (error) {
    fail(error, 2);
    return;
  }
  if (settings === 'help') {
    process.stdout.write(usage);
    return;
  }
  const starting = run(settings);
  // Before anything is up, so that a signal in the middle of the start leaves nothing either.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      starting.then((running) => running.stop()).catch(() => undefined);
    });
  }
  try {
    console.log(describe(await starting));
  } catch (error) {
    fail(error, 1);
  }
}

await main();
