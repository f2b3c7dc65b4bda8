import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Identity, startIdentity } from '../identity/identity.ts';
import { createLocalCa } from '../tls.ts';
import { type KeyVaultEmulator, type KeyVaultOptions, startKeyVault } from './key-vault.ts';

const usage = `Runs the Key Vault emulator and the local identity service alone.

  npm run emulator -- [options]

  --vault NAME          a vault to serve; repeat for more (default: main)
  --port PORT           port of the first vault (default 8443); the next vaults get the next ports, the control API
                        the port before; 0 takes free ports for everything
  --http-port PORT      plain http beside it, for clients that can do without TLS: port of the first vault, the next
                        vaults get the next ports; 0 takes free ports (default: no plain http)
  --identity-port PORT  port of the identity service (default 7072)
  --data DIR            keep certificates, keys and vault contents there (default: nothing is kept)
  --load FILE           start with this state, as GET /state of the control API gives it
  --ca-file FILE        write the certificate that clients must trust there too
  --tls-cert FILE       serve with this certificate instead of one of the emulator's own; PEM
  --tls-key FILE        its private key; PEM
  --help
`;

const maxPort = 65_535;

type Settings = {
  readonly vaults: readonly string[];
  readonly port: number;
  readonly httpPort: number | null;
  readonly identityPort: number;
  readonly data: string | null;
  readonly load: string | null;
  readonly caFile: string | null;
  readonly tls: { readonly cert: string; readonly key: string } | null;
};

type Running = {
  readonly emulator: KeyVaultEmulator;
  readonly identity: Identity;
  /** What clients must trust; `null` with a certificate from outside. */
  readonly caFile: string | null;
  readonly stop: () => Promise<void>;
};

function readArguments(): Settings | 'help' {
  const { values } = parseArgs({
    options: {
      vault: { type: 'string', multiple: true, default: ['main'] },
      port: { type: 'string', default: '8443' },
      'http-port': { type: 'string' },
      'identity-port': { type: 'string' },
      data: { type: 'string' },
      load: { type: 'string' },
      'ca-file': { type: 'string' },
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const count = values.vault.length;
  const port = parsePort('--port', values.port, count);
  const httpPort = values['http-port'];
  return {
    vaults: values.vault,
    port,
    httpPort: httpPort === undefined ? null : parsePort('--http-port', httpPort, count),
    identityPort: parsePort('--identity-port', values['identity-port'] ?? (port ? '7072' : '0')),
    data: pathOrNull(values.data),
    load: pathOrNull(values.load),
    caFile: pathOrNull(values['ca-file']),
    tls: givenCertificate(values['tls-cert'], values['tls-key']),
  };
}

/** @param count how many ports are taken from there on; those for 0 are free ones anywhere */
function parsePort(option: string, text: string, count = 1): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > maxPort) throw new Error(`${option} takes a port, not "${text}".`);
  if (port > 0 && port + count - 1 > maxPort)
    throw new Error(`${option} ${text} leaves no ports for ${count} vaults.`);
  return port;
}

function pathOrNull(file: string | undefined): string | null {
  return file === undefined ? null : resolve(file);
}

function givenCertificate(cert: string | undefined, key: string | undefined): Settings['tls'] {
  if (cert === undefined && key === undefined) return null;
  if (cert === undefined || key === undefined)
    throw new Error('--tls-cert and --tls-key go together.');
  return { cert: resolve(cert), key: resolve(key) };
}

async function run(settings: Settings): Promise<Running> {
  const { data } = settings;
  // Clients want the CA as a file, so there is a directory even when nothing is kept.
  const dir = data ?? (await mkdtemp(join(tmpdir(), 'keyturn-emulator-')));
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const stopPart of stops.toReversed()) await stopPart();
  };
  if (data === null) stops.push(() => rm(dir, { recursive: true, force: true }));
  try {
    const { caFile, ...tls } = await prepareTls(settings, dir);
    const kept = data === null ? {} : { dir };
    const identity = await startIdentity({ port: settings.identityPort, ...kept });
    stops.push(identity.stop);
    const emulator = await startKeyVault(emulatorOptions(settings, { identity, tls, dir }));
    stops.push(emulator.stop);
    return { emulator, identity, caFile, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Tls = KeyVaultOptions['tls'] & { readonly caFile: string | null };

async function prepareTls({ tls, caFile }: Settings, dir: string): Promise<Tls> {
  if (tls !== null) {
    const [cert, key] = await Promise.all([readFile(tls.cert, 'utf8'), readFile(tls.key, 'utf8')]);
    return { cert, key, caFile: null };
  }
  const ca = await createLocalCa(dir);
  const own = ca.caFile ?? null;
  if (caFile !== null && own !== null) await copyFile(own, caFile);
  return { cert: ca.cert, key: ca.key, caFile: caFile ?? own };
}

function emulatorOptions(
  { vaults, port, httpPort, load, data }: Settings,
  { identity, tls, dir }: { identity: Identity; tls: KeyVaultOptions['tls']; dir: string },
): KeyVaultOptions {
  const { jwksUri, issuer, tenantId } = identity;
  return {
    vaults: vaults.map((name, index) => ({
      name,
      port: port && port + index,
      ...(httpPort === null ? {} : { httpPort: httpPort && httpPort + index }),
    })),
    controlPort: port && port - 1,
    tls,
    tenantId,
    verifyToken: { jwksUri, issuer, audience: 'https://vault.azure.net' },
    onEvent: ({ eventType, data: { VaultName, ObjectName, Version } }) =>
      console.log(`event ${eventType} ${VaultName}/${ObjectName}/${Version}`),
    ...(data === null ? {} : { dataFile: join(dir, 'key-vault.json') }),
    ...(load === null ? {} : { loadFile: load }),
  };
}

function describe({ emulator, identity, caFile }: Running): string {
  const lines = emulator.vaults.flatMap(({ name, url, httpUrl }) => [
    `vault ${name}: ${url}`,
    ...(httpUrl === undefined ? [] : [`vault ${name}, plain: ${httpUrl}`]),
  ]);
  const trust = caFile === null ? '' : `\nexport NODE_EXTRA_CA_CERTS=${caFile}`;
  return `${lines.join('\n')}
control API: ${emulator.controlUrl}
identity: ${identity.url}
CA certificate: ${caFile ?? "not the emulator's own"}

For a program that uses an Azure SDK with DefaultAzureCredential, and with disableChallengeResourceVerification:

export AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential
export IDENTITY_ENDPOINT=${identity.managedIdentity.endpoint}
export IDENTITY_HEADER=${identity.managedIdentity.header}${trust}

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
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
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
