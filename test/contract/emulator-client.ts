import { type Agent, request } from 'node:https';
import { ManagedIdentityCredential } from '@azure/identity';
import { SecretClient } from '@azure/keyvault-secrets';
import { type Identity, startIdentity } from '../../local/identity/identity.ts';
import {
  type KeyVaultEmulator,
  type KeyVaultOptions,
  startKeyVault,
} from '../../local/key-vault/key-vault.ts';
import { createLocalCa, type LocalCa } from '../../local/tls.ts';

const keyVaultAudience = 'https://vault.azure.net';
const sdkOptions = {
  disableChallengeResourceVerification: true,
  retryOptions: { maxRetries: 0 },
} as const;

/** Identity service and certificates for any number of emulators of one test file. */
export type Ground = {
  readonly identity: Identity;
  readonly ca: LocalCa;
  /** A token that a vault accepts. */
  readonly token: string;
  readonly startVaults: (options?: Partial<KeyVaultOptions>) => Promise<KeyVaultEmulator>;
  /** With which an SDK client of any kind reaches the vaults. */
  readonly clientOptions: typeof sdkOptions & { readonly tlsOptions: { readonly ca: string } };
  readonly secretClient: (url: string) => SecretClient;
  readonly call: (url: string, wish?: Wish) => Promise<Reply>;
  readonly stop: () => Promise<void>;
};

type Wish = {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** `null`: none. */
  readonly token?: string | null;
  readonly agent?: Agent;
};

type Reply = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly json: any;
};

/** Starts the ground and points the process's managed identity at it. */
export async function prepareGround(): Promise<Ground> {
  const identity = await startIdentity();
  const ca = await createLocalCa();
  const started: KeyVaultEmulator[] = [];
  process.env['AZURE_TOKEN_CREDENTIALS'] = 'ManagedIdentityCredential';
  process.env['IDENTITY_ENDPOINT'] = identity.managedIdentity.endpoint;
  process.env['IDENTITY_HEADER'] = identity.managedIdentity.header;
  const token = await identity.issueToken({ audience: keyVaultAudience });
  const { jwksUri, issuer } = identity;
  const clientOptions = { ...sdkOptions, tlsOptions: { ca: ca.caPem } };
  return {
    identity,
    ca,
    token,
    clientOptions,
    startVaults: async (options) => {
      const emulator = await startKeyVault({
        vaults: [{ name: 'main' }],
        tls: ca,
        verifyToken: { jwksUri, issuer, audience: keyVaultAudience },
        ...options,
      });
      started.push(emulator);
      return emulator;
    },
    secretClient: (url) => new SecretClient(url, new ManagedIdentityCredential(), clientOptions),
    call: (url, wish = {}) => call(url, { token, ...wish }, ca.caPem),
    stop: async () => {
      await Promise.all(started.map((emulator) => emulator.stop()));
      await identity.stop();
      delete process.env['IDENTITY_ENDPOINT'];
      delete process.env['IDENTITY_HEADER'];
    },
  };
}

/** The target is sent as it stands: `new URL` would tidy it. */
function call(url: string, { method = 'GET', body, headers, token, agent }: Wish, ca: string) {
  const [, host = '', path = ''] = /^https:\/\/([^/]+)(.*)$/s.exec(url) ?? [];
  const [hostname = '', port = ''] = host.split(':');
  const payload = typeof body === 'string' ? body : JSON.stringify(body);
  const options = {
    method,
    hostname,
    port,
    path: path || '/',
    ca,
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      // Said by hand: for some methods Node would send the body without its length.
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
      ...headers,
    },
    ...(agent === undefined ? {} : { agent }),
  };
  return new Promise<Reply>((resolve, reject) => {
    const outgoing = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const { statusCode = 0, headers } = response;
        resolve({ status: statusCode, headers, text, json: parseOrUndefined(text) });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Waits until `find` returns something. */
export async function eventually<T>(find: () => T | undefined, withinMs = 3000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = find();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`nothing was found within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
