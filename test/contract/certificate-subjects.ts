import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManagedIdentityCredential } from '@azure/identity';
import { CertificateClient, type CertificatePolicy } from '@azure/keyvault-certificates';
import type { KeyVaultEmulator, KeyVaultOptions } from '../../local/key-vault/key-vault.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { type Control, controlOf, urlOf } from './emulator-control.ts';

// What tests of certificates are made of: a client, and `openssl` as maker and judge that knows nothing of the emulator.

export const apiVersion = 'api-version=2026-04-01';

/** On an elliptic curve, which takes no time to make. */
export const ecPolicy = {
  issuerName: 'Self',
  subject: 'CN=subject.example',
  keyType: 'EC',
  keyCurveName: 'P-256',
} as const;

export const fast = { intervalInMs: 10 } as const;

export function certificateClient(ground: Ground, url: string): CertificateClient {
  return new CertificateClient(url, new ManagedIdentityCredential(), ground.clientOptions);
}

type CreateOptions = Parameters<CertificateClient['beginCreateCertificate']>[2];
type Poller = Awaited<ReturnType<CertificateClient['beginCreateCertificate']>>;

/** A running emulator as tests of certificates look at it. */
export type Scene = {
  readonly ground: Ground;
  readonly emulator: KeyVaultEmulator;
  readonly control: Control;
  /** Of the vault `main`. */
  readonly url: string;
  readonly client: CertificateClient;
  readonly call: (path: string, method?: string, body?: unknown) => ReturnType<Ground['call']>;
  /** With `ecPolicy`, but for what the policy says otherwise. */
  readonly create: (
    name: string,
    policy?: Partial<CertificatePolicy>,
    options?: CreateOptions,
  ) => Promise<Poller>;
  readonly switchIssuance: (issuance: unknown) => Promise<unknown>;
  readonly stop: () => Promise<void>;
};

export async function prepareScene(options: Partial<KeyVaultOptions> = {}): Promise<Scene> {
  const ground = await prepareGround();
  const scene = await openScene(ground, options);
  return { ...scene, stop: ground.stop };
}

/** Another emulator on the same ground. */
export async function openScene(
  ground: Ground,
  options: Partial<KeyVaultOptions> = {},
): Promise<Scene> {
  const emulator = await ground.startVaults(options);
  const control = controlOf(emulator);
  const url = urlOf(emulator);
  const client = certificateClient(ground, url);
  return {
    ...{ ground, emulator, control, url, client },
    call: (path, method = 'GET', body) => {
      const separator = path.includes('?') ? '&' : '?';
      const wish = { method, ...(body === undefined ? {} : { body }) };
      return ground.call(`${url}${path}${separator}${apiVersion}`, wish);
    },
    create: (name, policy = {}, more = {}) => {
      const wished = { ...ecPolicy, ...policy } as CertificatePolicy;
      return client.beginCreateCertificate(name, wished, { ...fast, ...more });
    },
    switchIssuance: (issuance) => control('PATCH', '/vaults/main/switches', { issuance }),
    stop: emulator.stop,
  };
}

/** A directory for what `openssl` reads and writes. */
export type Workbench = {
  readonly openssl: (args: readonly string[], input?: string | Buffer) => string;
  readonly file: (name: string, content: string | Buffer) => string;
  readonly path: (name: string) => string;
  readonly clear: () => void;
};

export function createWorkbench(): Workbench {
  const dir = mkdtempSync(join(tmpdir(), 'certificates-'));
  const path = (name: string): string => join(dir, name);
  return {
    path,
    openssl: (args, input = '') =>
      execFileSync('openssl', args, { cwd: dir, input, stdio: 'pipe' }).toString(),
    file: (name, content) => {
      writeFileSync(path(name), content);
      return path(name);
    },
    clear: () => rmSync(dir, { recursive: true }),
  };
}

/** A key as PEM (PKCS#8). */
export function keyPem(kind: 'ec' | 'rsa' = 'ec'): string {
  return makeKey(kind).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function makeKey(kind: 'ec' | 'rsa'): KeyObject {
  return kind === 'ec'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    : generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
}

type SelfSigned = {
  readonly key: string;
  readonly subject?: string;
  readonly days?: number;
  readonly extensions?: readonly string[];
};

/** A certificate (PEM) signed with its own key. */
export function selfSigned(
  { openssl, file }: Workbench,
  { key, subject = '/CN=outside.example', days = 30, extensions = [] }: SelfSigned,
): string {
  const args = ['req', '-x509', '-new', '-key', file('self.key', key), '-subj', subject];
  const wished = extensions.flatMap((extension) => ['-addext', extension]);
  return openssl([...args, '-days', String(days), ...wished]);
}

export type OutsideAuthority = {
  /** PEM. */
  readonly root: string;
  readonly intermediate: string;
  /** @param csr DER @returns a certificate (PEM) from the intermediate */
  readonly sign: (csr: Uint8Array, days?: number) => string;
};

/** A certification authority that the vault knows nothing of. */
export function createOutsideAuthority(bench: Workbench): OutsideAuthority {
  const { openssl, file } = bench;
  const ca = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
  const rootKey = file('root.key', keyPem());
  const root = openssl(
    ['req', '-x509', '-new', '-key', rootKey, '-subj', '/CN=Outside root', '-days', '3650'].concat(
      ca.slice(1).flatMap((extension) => ['-addext', extension]),
    ),
  );
  const rootFile = file('root.pem', root);
  const signer = (certFile: string, certKey: string, days: number, extFile: string): string[] => [
    ...['x509', '-req', '-CA', certFile, '-CAkey', certKey, '-CAcreateserial'],
    ...['-days', String(days), '-extfile', extFile],
  ];
  const intermediateKey = file('intermediate.key', keyPem());
  const request = openssl(['req', '-new', '-key', intermediateKey, '-subj', '/CN=Outside issuing']);
  const caExt = file('ca.ext', ca.join('\n'));
  const intermediate = openssl(signer(rootFile, rootKey, 3650, caExt), request);
  const intermediateFile = file('intermediate.pem', intermediate);
  const leafExt = file('leaf.ext', 'basicConstraints=CA:FALSE');
  const sign = (csr: Uint8Array, days = 30): string =>
    openssl(
      [...signer(intermediateFile, intermediateKey, days, leafExt), '-inform', 'DER'],
      Buffer.from(csr),
    );
  return { root, intermediate, sign };
}

/** The bytes between the lines of the first block. */
export function derOf(pem: string): Buffer {
  const [, body = ''] = /-----BEGIN [^-]+-----([^-]+)/.exec(pem) ?? [];
  return Buffer.from(body, 'base64');
}
