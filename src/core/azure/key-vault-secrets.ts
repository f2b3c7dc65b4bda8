/** SecretService on a Key Vault, uncached. */
import type { TokenCredential } from '@azure/identity';
import type {
  DeletedSecret as SdkDeleted,
  SecretProperties as SdkProperties,
  SecretClient,
  SetSecretOptions,
} from '@azure/keyvault-secrets';
import { AppError, hasCode } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import type { VaultCaller } from '../vault/calls.ts';
import { type Limits, vaultLimits } from '../vault/pipeline.ts';
import type {
  DeletedSecret,
  SecretChanges,
  SecretProperties,
  SecretService,
} from '../vault/ports.ts';
import {
  checkNewSecret,
  checkSecretChanges,
  checkSecretName,
  checkVersion,
} from '../vault/secret-rules.ts';
import {
  type Connection as AnyConnection,
  connect,
  pages,
  type Request,
  send,
} from './key-vault-connection.ts';
import { type LifecycleCalls, lifecycle } from './key-vault-lifecycle.ts';

type Connection = AnyConnection<SecretClient>;

/** A deletion takes seconds until it can be purged. */
const eraseMs = 60_000;
/** How long a deletion whose answer was lost may take to show. */
const unknownMs = 5_000;

export function azureSecrets(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  by: VaultCaller | Limits = vaultLimits,
): SecretService {
  const connection = connect(vault, credential, by, async (url, identity, options) => {
    const { SecretClient } = await import('@azure/keyvault-secrets');
    return new SecretClient(url, identity, options);
  });
  return {
    get: async (name, version) => {
      checkSecretName(name);
      if (version !== undefined) checkVersion(version);
      const request = reading('get', 'getSecret', name);
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
      const request = { ...reading('set', 'setSecret', name), repeatable: false, guard };
      return send(connection, request, async (client, { signal }) => {
        const options = { ...optionsOf(secret), abortSignal: signal };
        const { properties } = await client.setSecret(name, secret.value.expose(), options);
        return propertiesOf(properties);
      });
    },
    list: () => {
      const request = { what: 'list secrets', operation: 'getSecrets' };
      const open: Open = (client, options) => client.listPropertiesOfSecrets(options);
      return pages(connection, request, open, propertiesOf);
    },
    listVersions: (name) => {
      checkSecretName(name);
      const request = reading('list versions of', 'getSecretVersions', name);
      const open: Open = (client, options) => client.listPropertiesOfSecretVersions(name, options);
      return pages(connection, request, open, propertiesOf);
    },
    update: async (name, version, changes) => {
      checkSecretName(name);
      checkVersion(version);
      checkSecretChanges(changes);
      const request = reading('update', 'updateSecret', name);
      return send(connection, request, async (client, { signal }) => {
        const options = { ...optionsOf(changes), abortSignal: signal };
        return propertiesOf(await client.updateSecretProperties(name, version, options));
      });
    },
    ...lifecycle(connection, lifecycleCalls),
    erase: async (name) => {
      checkSecretName(name);
      await erase(connection, name);
    },
  };
}

type Open = (
  client: SecretClient,
  options: { abortSignal: AbortSignal },
) => ReturnType<SecretClient['listPropertiesOfSecrets']>;

/** A call that may be repeated. */
function reading(words: string, operation: string, name: string): Request {
  return { what: `${words} ${name}`, operation, object: name, repeatable: true };
}

const lifecycleCalls: LifecycleCalls<
  SecretClient,
  SdkProperties,
  SdkDeleted,
  SecretProperties,
  DeletedSecret
> = {
  type: 'Secret',
  checkName: checkSecretName,
  beginDelete: (client, name, options) => client.beginDeleteSecret(name, options),
  getDeleted: (client, name, options) => client.getDeletedSecret(name, options),
  listDeleted: (client, options) => client.listDeletedSecrets(options),
  beginRecover: (client, name, options) => client.beginRecoverDeletedSecret(name, options),
  purge: (client, name, options) => client.purgeDeletedSecret(name, options),
  backup: (client, name, options) => client.backupSecret(name, options),
  restore: (client, backup, options) => client.restoreSecretBackup(backup, options),
  liveOf: propertiesOf,
  deletedOf,
};

function deletedOf({ properties, deletedOn, scheduledPurgeDate }: SdkDeleted): DeletedSecret {
  if (!deletedOn || !scheduledPurgeDate) throw new TypeError('a deletion without dates');
  return { properties: propertiesOf(properties), deletedOn, purgeOn: scheduledPurgeDate };
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
  const request = reading('delete', 'deleteSecret', name);
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
  const request = reading('get deleted', 'getDeletedSecret', name);
  const found = await unlessAbsent(
    send(connection, request, (client, { signal }) =>
      client.getDeletedSecret(name, { abortSignal: signal }),
    ),
  );
  return found !== null;
}

/** Purges the deleted secret; fine when there is none. */
async function purge(connection: Connection, name: string): Promise<void> {
  const request = reading('purge', 'purgeDeletedSecret', name);
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

function optionsOf(secret: SecretChanges): SetSecretOptions {
  return {
    ...(secret.contentType ? { contentType: secret.contentType } : {}),
    ...(secret.enabled === undefined ? {} : { enabled: secret.enabled }),
    ...(secret.notBefore ? { notBefore: secret.notBefore } : {}),
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
    updated: properties.updatedOn ?? properties.createdOn,
    notBefore: properties.notBefore ?? null,
    expiresOn: properties.expiresOn ?? null,
    contentType: properties.contentType ?? null,
    tags: properties.tags ?? {},
    managed: properties.managed === true,
  };
}
