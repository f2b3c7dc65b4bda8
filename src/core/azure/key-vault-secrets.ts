/** SecretService on a Key Vault, uncached. */
import type { TokenCredential } from '@azure/identity';
import type {
  SecretProperties as SdkProperties,
  SecretClient,
  SetSecretOptions,
} from '@azure/keyvault-secrets';
import { AppError, hasCode } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import { callRemote, type Limits, vaultLimits } from '../vault/pipeline.ts';
import type { NewSecret, SecretProperties, SecretService } from '../vault/ports.ts';
import { checkNewSecret, checkSecretName, checkVersion } from '../vault/secret-rules.ts';
import { type CallContext, clientOptions, inCall } from './key-vault-calls.ts';
import { judgeVaultError } from './key-vault-errors.ts';

/** A deletion takes seconds until it can be purged. */
const eraseMs = 60_000;
/** How long a deletion whose answer was lost may take to show. */
const unknownMs = 5_000;

interface Connection {
  readonly alias: string;
  readonly limits: Limits;
  /** The client, once its first request has been answered; before that, to one call at a time. */
  readonly use: <T>(work: (client: SecretClient) => Promise<T>) => Promise<T>;
}

interface Request {
  /** What is attempted, for error messages: `get orders-db`. */
  readonly what: string;
  readonly repeatable: boolean;
  readonly guard?: (() => void) | undefined;
}

export function azureSecrets(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  limits: Limits = vaultLimits,
): SecretService {
  const connection = { alias: vault.alias, limits, use: opener(vault.url, credential) };
  return {
    get: async (name, version) => {
      checkSecretName(name);
      if (version !== undefined) checkVersion(version);
      const request = { what: `get ${name}`, repeatable: true };
      return send(connection, request, async (client, { signal }) => {
        const options = version === undefined ? {} : { version };
        const secret = await client.getSecret(name, { ...options, abortSignal: signal });
        if (secret.value === undefined) throw new TypeError('a secret without a value');
        return {
          properties: propertiesOf(secret.properties),
          value: new SecretString(secret.value),
        };
      });
    },
    set: async (name, secret, { guard } = {}) => {
      checkSecretName(name);
      checkNewSecret(secret);
      const request = { what: `set ${name}`, repeatable: false, guard };
      return send(connection, request, async (client, { signal }) => {
        const options = { ...optionsOf(secret), abortSignal: signal };
        const { properties } = await client.setSecret(name, secret.value.expose(), options);
        return propertiesOf(properties);
      });
    },
    list: () =>
      pages(connection, 'list secrets', (client, options) =>
        client.listPropertiesOfSecrets(options),
      ),
    listVersions: (name) => {
      checkSecretName(name);
      return pages(connection, `list versions of ${name}`, (client, options) =>
        client.listPropertiesOfSecretVersions(name, options),
      );
    },
    erase: async (name) => {
      checkSecretName(name);
      await erase(connection, name);
    },
  };
}

function send<T>(
  connection: Connection,
  request: Request,
  run: (client: SecretClient, context: CallContext, attempt: number) => Promise<T>,
): Promise<T> {
  const { alias, limits, use } = connection;
  return callRemote({
    limits,
    repeatable: request.repeatable,
    run: (signal, attempt) => {
      const context: CallContext = { signal, guard: request.guard, nextLink: null };
      return inCall(context, () => use((client) => run(client, context, attempt)));
    },
    judge: (cause) => judgeVaultError(cause, `${request.what} in ${alias}`),
  });
}

type Listing = Pick<ReturnType<SecretClient['listPropertiesOfSecrets']>, 'byPage'>;

async function* pages(
  connection: Connection,
  what: string,
  open: (client: SecretClient, options: { abortSignal: AbortSignal }) => Listing,
): AsyncIterable<SecretProperties> {
  let link: string | null = null;
  do {
    const from: { continuationToken?: string } = link === null ? {} : { continuationToken: link };
    const page: { items: SecretProperties[]; next: string | null } = await send(
      connection,
      { what, repeatable: true },
      async (client, context) => {
        const listing = open(client, { abortSignal: context.signal }).byPage(from);
        const { value } = await listing.next();
        return { items: (value ?? []).map(propertiesOf), next: context.nextLink };
      },
    );
    yield* page.items;
    link = page.next;
  } while (link !== null);
}

/**
 * Deletes, then purges. A name may be live, deleted, on its way from one to the other, or absent,
 * and somebody else may be erasing it too. The 409 of a transition is repeated by the pipeline.
 *
 * What was deleted shows up among the deleted only after a while. Until it has been seen there,
 * a purge that finds nothing proves nothing; after that, it proves the secret is gone.
 */
async function erase(connection: Connection, name: string): Promise<void> {
  const start = performance.now();
  let deletion = await remove(connection, name);
  for (let wait = 250; deletion === 'deleting' || deletion === 'unknown'; wait = longer(wait)) {
    if (await isAmongDeleted(connection, name)) break;
    const waited = performance.now() - start + wait;
    // Most likely there never was one: an earlier try had failed before it could delete anything.
    if (deletion === 'unknown' && waited > unknownMs) break;
    if (waited > eraseMs) {
      throw new AppError('vault_unavailable', {
        detail: `erase ${name} in ${connection.alias}: deleted, but not to be purged yet`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    if ((await remove(connection, name)) === 'deleted') deletion = 'deleted';
  }
  await purge(connection, name);
}

function longer(wait: number): number {
  return Math.min(wait * 2, 4_000);
}

/**
 * Deletes the live secret: `deleted` once it is seen among the deleted, `deleting` before that;
 * `unknown` when it is gone after a try that failed, and may have been that try's work.
 */
async function remove(
  connection: Connection,
  name: string,
): Promise<'absent' | 'unknown' | 'deleting' | 'deleted'> {
  let attempts = 0;
  const request = { what: `delete ${name}`, repeatable: true };
  const poller = await unlessAbsent(
    send(connection, request, (client, { signal }, attempt) => {
      attempts = attempt;
      return client.beginDeleteSecret(name, { abortSignal: signal });
    }),
  );
  if (poller !== null) return poller.isDone() ? 'deleted' : 'deleting';
  return attempts > 1 ? 'unknown' : 'absent';
}

async function isAmongDeleted(connection: Connection, name: string): Promise<boolean> {
  const request = { what: `get deleted ${name}`, repeatable: true };
  const found = await unlessAbsent(
    send(connection, request, (client, { signal }) =>
      client.getDeletedSecret(name, { abortSignal: signal }),
    ),
  );
  return found !== null;
}

/** Purges the deleted secret; fine when there is none. */
async function purge(connection: Connection, name: string): Promise<void> {
  const request = { what: `purge ${name}`, repeatable: true };
  await unlessAbsent(
    send(connection, request, (client, { signal }) =>
      client.purgeDeletedSecret(name, { abortSignal: signal }),
    ),
  );
}

async function unlessAbsent<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call;
  } catch (error) {
    if (hasCode(error, 'not_found')) return null;
    throw error;
  }
}

function optionsOf(secret: NewSecret): SetSecretOptions {
  return {
    ...(secret.contentType ? { contentType: secret.contentType } : {}),
    ...(secret.expiresOn ? { expiresOn: secret.expiresOn } : {}),
    ...(secret.tags ? { tags: { ...secret.tags } } : {}),
  };
}

function propertiesOf(properties: SdkProperties): SecretProperties {
  if (properties.createdOn === undefined) throw new TypeError('a secret without attributes');
  return {
    name: properties.name,
    version: properties.version ?? '',
    enabled: properties.enabled ?? true,
    created: properties.createdOn,
    expiresOn: properties.expiresOn ?? null,
    contentType: properties.contentType ?? null,
    tags: properties.tags ?? {},
    managed: properties.managed === true,
  };
}

/**
 * The client, loaded and made on first use. Until the vault has answered once, calls go one by one:
 * the SDK strips the body off its first request to provoke the challenge, and when two first
 * requests overlap it may send the real one without its body.
 */
function opener(url: string, credential: TokenCredential): Connection['use'] {
  let client: SecretClient | null = null;
  let isOpen = false;
  let first: Promise<unknown> | null = null;
  return async (work) => {
    if (client === null) {
      const sdk = await import('@azure/keyvault-secrets');
      client ??= new sdk.SecretClient(url, credential, clientOptions(url));
    }
    const ready = client;
    while (!isOpen && first !== null) await first.catch(() => undefined);
    if (isOpen) return work(ready);
    const running = work(ready).finally(() => {
      first = null;
    });
    first = running;
    try {
      const result = await running;
      isOpen = true;
      return result;
    } catch (error) {
      isOpen = hasAnswered(error);
      throw error;
    }
  };
}

/** True when the vault itself refused, so that its challenge is behind us. */
function hasAnswered(error: unknown): boolean {
  const { statusCode } = error as { statusCode?: number };
  return statusCode !== undefined && statusCode !== 401 && statusCode < 500;
}
