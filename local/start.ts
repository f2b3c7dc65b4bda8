import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildApp } from './build.ts';
import { type Demo, demoNearExpiry, demoSecret, prepareDemo, runDemo } from './demo/demo.ts';
import { type HostProcess, startHostProcess } from './host-process.ts';
import { localAudience } from './identity/identity.ts';
import { isFree } from './loopback-http.ts';
import { appSettings, type Stack, startStack, vaultTopic } from './stack.ts';

const usage = `npm start: Keyturn with everything it talks to, on this machine, rotating a database password.

  npm start -- [options]

  --port N      port of the app; the others are N+1 to N+7 (default 7071)
  --data DIR    keep all state in DIR and go on with it at the next start
  --no-demo     start everything, rotate nothing by itself
  --help        this text`;

interface Options {
  readonly port: number;
  readonly data: string | null;
  readonly demo: boolean;
}

function parseOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    allowNegative: true,
    options: {
      port: { type: 'string', default: '7071' },
      data: { type: 'string' },
      demo: { type: 'boolean', default: true },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1024 || port > 65_000) {
    throw new Error(`--port: write a whole number from 1024 to 65000, not ${values.port}`);
  }
  return { port, data: values.data === undefined ? null : resolve(values.data), demo: values.demo };
}

interface Running {
  readonly stack: Stack;
  readonly host: HostProcess;
}

async function run(options: Options, stops: (() => Promise<void>)[]): Promise<Running> {
  const print = (text: string) => console.log(text);
  await checkPorts(options.port);
  print('Building the app …');
  await buildApp();
  const startedAt = Date.now();
  print('Starting storage, identity, Key Vault, Event Grid, PostgreSQL and the functions host …');
  const dir = options.data ?? (await temporaryFolder());
  if (options.data === null) stops.push(() => rm(dir, { recursive: true, force: true }));
  const stack = await startStack({
    dir,
    keep: options.data !== null,
    basePort: options.port,
    nearExpiry: demoNearExpiry,
  });
  stops.push(() => stack.stop());
  let demo: Demo | null = null;
  const ground = await prepareDemo(stack, {
    dir,
    webhookPort: options.port + 7,
    isNearExpiry: options.demo,
    onTold: (text) => demo?.say(text),
  });
  stops.push(() => ground.webhook.stop());
  const host = await startHostProcess({
    app: 'dist',
    port: options.port,
    settings: appSettings(stack, {
      documents: ground.documents,
      webhookHosts: [ground.webhook.host],
      overrides: {
        KEYTURN_SWEEP_SCHEDULE: '*/2 * * * * *',
        KEYTURN_SCAN_SCHEDULE: '*/20 * * * * *',
      },
    }),
    flags: ['--poll-seconds', '1'],
    onLine: (line) => (demo ? demo.onLine(line) : undefined),
  });
  stops.push(() => host.stop());
  await subscribe(stack, host.url);
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  print(`Ready after ${seconds} s.\n`);
  await printHints(stack, host, print);
  if (options.demo) {
    print(
      `An application logs in to PostgreSQL five times a second with the secret ${demoSecret}:\n`,
    );
    demo = await runDemo(stack, print);
    stops.push(async () => demo?.stop());
  }
  return { stack, host };
}

/** Asked before anything is built or started. @throws Error that names the ports somebody else has */
async function checkPorts(base: number): Promise<void> {
  const ports = Array.from({ length: 8 }, (_, offset) => base + offset);
  const free = await Promise.all(ports.map(isFree));
  const taken = ports.filter((_, index) => !free[index]);
  if (taken.length === 0) return;
  const range = `${base} to ${base + 7}`;
  throw new Error(
    `Taken already: port ${taken.join(', ')} of ${range}. Choose others with --port.`,
  );
}

/** Others may pass through, not look: as root, the database server runs as somebody else. */
async function temporaryFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
  await chmod(dir, 0o711);
  return dir;
}

async function subscribe(stack: Stack, hostUrl: string): Promise<void> {
  for (const type of ['SecretNearExpiry', 'SecretExpired', 'SecretNewVersionCreated']) {
    const name = type.replace('S', 's');
    await stack.eventGrid.subscribe({
      topic: vaultTopic,
      name,
      endpoint: `${hostUrl}/runtime/webhooks/eventgrid?functionName=${name}`,
      schema: 'EventGridSchema',
      filter: { includedEventTypes: [`Microsoft.KeyVault.${type}`] },
    });
  }
}

async function printHints(
  { identity, keyVault, ca }: Stack,
  host: HostProcess,
  print: (text: string) => void,
): Promise<void> {
  const token = await identity.issueToken({
    audience: localAudience,
    roles: ['Keyturn.Rotations.Operate', 'Keyturn.Health.Read'],
    subject: 'you',
  });
  print(`  API        ${host.url}/api`);
  for (const { name, url } of keyVault.vaults) print(`  vault      ${url} (${name})`);
  print(`  CA         ${ca.caFile}`);
  print(`  control    ${keyVault.controlUrl} (faults, audit of every vault call)\n`);
  print('Rotate whenever you like, with a token that is good for an hour:\n');
  print(`  curl -X POST ${host.url}/api/vaults/main/secrets/${demoSecret}/rotations \\`);
  print(`    -H 'Authorization: Bearer ${token}'\n`);
  print('Ctrl-C stops everything.\n');
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(usage);
    return;
  }
  const stops: (() => Promise<void>)[] = [];
  let isStopping = false;
  const stop = async (code: number) => {
    if (isStopping) return;
    isStopping = true;
    for (const one of stops.reverse()) {
      await one().catch((error: unknown) => console.error(`while stopping: ${String(error)}`));
    }
    process.exit(code);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!isStopping) console.log('\nStopping …');
      void stop(0);
    });
  }
  try {
    const { host } = await run(options, stops);
    const code = await host.ended;
    if (!isStopping) console.error(`The functions host ended by itself with ${code}.`);
    await stop(1);
  } catch (error) {
    if (!isStopping) console.error(error instanceof Error ? error.message : String(error));
    await stop(1);
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
