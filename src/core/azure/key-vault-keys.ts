/** KeyService on a Key Vault or a Managed HSM, uncached. */
import type { TokenCredential } from '@azure/identity';
import type { KeyClient } from '@azure/keyvault-keys';
import type { VaultCaller } from '../vault/calls.ts';
import {
  checkImport,
  checkKeyChanges,
  checkKeyName,
  checkNewKey,
  checkRotationPolicy,
} from '../vault/key-rules.ts';
import type { KeyService } from '../vault/keys.ts';
import { type Limits, vaultLimits } from '../vault/pipeline.ts';
import { parsePrivateKey } from '../vault/private-key.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { serviceKind } from '../vault/service-kind.ts';
import { type Connection, connect, pages, type Request, send } from './key-vault-connection.ts';
import {
  changesToSdk,
  deletedOf,
  jwkToSdk,
  keyOf,
  newKeyToSdk,
  policyOf,
  policyToSdk,
  propertiesOf,
  releaseTermsToSdk,
} from './key-vault-key-shapes.ts';
import { keyUse } from './key-vault-key-use.ts';
import { lifecycle } from './key-vault-lifecycle.ts';

type Part<K extends keyof KeyService> = Pick<KeyService, K>;
type Options = { readonly abortSignal: AbortSignal };

/** @param by what all that calls this vault has in common, or the limits of a caller of its own */
export function azureKeys(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  by: VaultCaller | Limits = vaultLimits,
): KeyService {
  const connection = connect(vault, credential, by, async (url, identity, options) => {
    const { KeyClient } = await import('@azure/keyvault-keys');
    return new KeyClient(url, identity, options);
  });
  const reads = reading(connection);
  return {
    ...reads,
    ...making(connection, vault.url),
    ...lifecycle(connection, {
      type: 'Key',
      checkName: checkKeyName,
      beginDelete: (client, name, options) => client.beginDeleteKey(name, options),
      getDeleted: (client, name, options) => client.getDeletedKey(name, options),
      listDeleted: (client: KeyClient, options) => client.listDeletedKeys(options),
      beginRecover: (client, name, options) => client.beginRecoverDeletedKey(name, options),
      purge: (client, name, options) => client.purgeDeletedKey(name, options),
      backup: (client, name, options) => client.backupKey(name, options),
      restore: (client, backup, options) => client.restoreKeyBackup(backup, options),
      liveOf: keyOf,
      deletedOf,
    }),
    ...policies(connection),
    ...keyUse(connection, vault.url, reads.get),
  };
}

function reading(
  connection: Connection<KeyClient>,
): Part<'get' | 'list' | 'listVersions' | 'update'> {
  return {
    get: async (name, version) => {
      const request = about('get', 'getKey', name);
      if (version !== undefined) checkVersion(version);
      return send(connection, request, async (client, { signal }) => {
        const wanted = version === undefined ? {} : { version };
        return keyOf(await client.getKey(name, { ...wanted, abortSignal: signal }));
      });
    },
    list: () =>
      pages(
        connection,
        { what: 'list keys', operation: 'getKeys' },
        (client: KeyClient, options: Options) => client.listPropertiesOfKeys(options),
        propertiesOf,
      ),
    listVersions: (name) =>
      pages(
        connection,
        about('list versions of', 'getKeyVersions', name),
        (client: KeyClient, options: Options) => client.listPropertiesOfKeyVersions(name, options),
        propertiesOf,
      ),
    update: async (name, version, changes) => {
      const request = about('update', 'updateKey', name);
      checkVersion(version);
      checkKeyChanges(changes);
      return send(connection, request, async (client, { signal }) => {
        const options = { ...changesToSdk(changes), abortSignal: signal };
        return keyOf(await client.updateKeyProperties(name, version, options));
      });
    },
  };
}

function making(
  connection: Connection<KeyClient>,
  url: string,
): Part<'create' | 'import' | 'rotate'> {
  return {
    create: async (name, key) => {
      const request = creating('create', 'createKey', name);
      checkNewKey(key, serviceKind(url));
      return send(connection, request, async (client, { signal }) => {
        const options = { ...newKeyToSdk(key), abortSignal: signal };
        return keyOf(await client.createKey(name, key.type, options));
      });
    },
    import: async (name, key) => {
      const request = creating('import', 'importKey', name);
      const privateKey = parsePrivateKey(key.key);
      const operations = key.operations ?? privateKey.operations;
      const { hardwareProtected } = key;
      checkImport(
        { ...key, ...(operations ? { operations } : {}) },
        privateKey.type,
        serviceKind(url),
      );
      return send(connection, request, async (client, { signal }) => {
        const { keyOps: _, ...attributes } = changesToSdk(key);
        const imported = await client.importKey(name, jwkToSdk(privateKey, operations), {
          ...attributes,
          ...releaseTermsToSdk(key),
          ...(hardwareProtected === undefined ? {} : { hardwareProtected }),
          abortSignal: signal,
        });
        return keyOf(imported);
      });
    },
    rotate: async (name) =>
      send(connection, creating('rotate', 'rotateKey', name), async (client, { signal }) =>
        keyOf(await client.rotateKey(name, { abortSignal: signal })),
      ),
  };
}

function policies(
  connection: Connection<KeyClient>,
): Part<'getRotationPolicy' | 'setRotationPolicy'> {
  return {
    getRotationPolicy: async (name) => {
      const request = about('get rotation policy of', 'getKeyRotationPolicy', name);
      // The SDK ignores its options here; the signal reaches the request all the same, by our policy.
      return send(connection, request, async (client) =>
        policyOf(await client.getKeyRotationPolicy(name)),
      );
    },
    setRotationPolicy: async (name, policy) => {
      const request = about('set rotation policy of', 'updateKeyRotationPolicy', name);
      checkRotationPolicy(policy);
      return send(connection, request, async (client, { signal }) => {
        const options = { abortSignal: signal };
        return policyOf(await client.updateKeyRotationPolicy(name, policyToSdk(policy), options));
      });
    },
  };
}

/** @throws AppError `invalid_input` for what is not the name of a key */
function about(words: string, operation: string, name: string): Request & { object: string } {
  checkKeyName(name);
  return { what: `${words} key ${name}`, operation, object: name, repeatable: true };
}

/** Its one try may have succeeded although no answer came. */
function creating(words: string, operation: string, name: string): Request {
  return { ...about(words, operation, name), repeatable: false };
}
