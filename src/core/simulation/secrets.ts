import { AppError } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import type {
  NewSecret,
  SecretChanges,
  SecretProperties,
  SecretService,
  SecretVersion,
} from '../vault/ports.ts';
import {
  checkNewSecret,
  checkSecretChanges,
  checkSecretName,
  checkVersion,
} from '../vault/secret-rules.ts';
import { pages, performer, type Shared, type VaultState } from './calls.ts';
import { simulatedLifecycle } from './lifecycle.ts';
import { newVersion, type ObjectStore, wholeSeconds } from './store.ts';

export type SecretStore = ObjectStore<SecretVersion>;

export function simulatedSecrets(
  store: SecretStore,
  vault: VaultState,
  shared: Shared,
): SecretService {
  const perform = performer('secret', vault, shared);
  const now = () => shared.clock.now();
  return {
    get: async (name, version) => {
      checkSecretName(name);
      if (version !== undefined) checkVersion(version);
      return perform('get', name, () => {
        const found = store.get(name, version);
        if (found.properties.enabled) return found;
        throw new AppError('object_disabled', { detail: `get ${name} in ${vault.alias}` });
      });
    },
    set: async (name, secret, { guard } = {}) => {
      checkSecretName(name);
      checkNewSecret(secret);
      return perform('set', name, () => {
        guard?.();
        return addVersion(store, name, secret, now());
      });
    },
    list: () =>
      pages(
        () => store.latest().map(({ properties }) => ({ ...properties, version: '' })),
        (work) => perform('list', '', work),
      ),
    listVersions: (name) => {
      checkSecretName(name);
      return pages(
        () => store.versions(name).map(({ properties }) => properties),
        (work) => perform('listVersions', name, work),
      );
    },
    update: async (name, version, changes) => {
      checkSecretName(name);
      checkVersion(version);
      checkSecretChanges(changes);
      return perform('update', name, () => {
        const { value, properties } = store.get(name, version);
        const changed = changedProperties(properties, changes, now());
        store.replace({ value, properties: changed });
        return changed;
      });
    },
    ...simulatedLifecycle(
      store,
      { perform, now },
      {
        checkName: checkSecretName,
        describe: ({ properties }: SecretVersion) => properties,
        save: ({ properties, value }): Saved => ({ properties, value: value.expose() }),
        load: ({ properties, value }: Saved) => ({ properties, value: new SecretString(value) }),
      },
    ),
    erase: async (name) => {
      checkSecretName(name);
      await perform('erase', name, () => store.erase(name));
    },
  };
}

interface Saved {
  readonly properties: SecretProperties;
  readonly value: string;
}

function addVersion(
  store: SecretStore,
  name: string,
  secret: NewSecret,
  now: Date,
): SecretProperties {
  const properties: SecretProperties = {
    name: store.freeName(name, now),
    version: newVersion(),
    enabled: secret.enabled ?? true,
    created: wholeSeconds(now),
    updated: wholeSeconds(now),
    notBefore: secret.notBefore ? wholeSeconds(secret.notBefore) : null,
    expiresOn: secret.expiresOn ? wholeSeconds(secret.expiresOn) : null,
    contentType: secret.contentType ?? null,
    tags: { ...secret.tags },
    managed: false,
  };
  store.add({ properties, value: new SecretString(secret.value.expose()) });
  return properties;
}

function changedProperties(
  old: SecretProperties,
  { enabled, contentType, notBefore, expiresOn, tags }: SecretChanges,
  now: Date,
): SecretProperties {
  return {
    ...old,
    updated: wholeSeconds(now),
    ...(enabled === undefined ? {} : { enabled }),
    ...(contentType ? { contentType } : {}),
    ...(notBefore ? { notBefore: wholeSeconds(notBefore) } : {}),
    ...(expiresOn ? { expiresOn: wholeSeconds(expiresOn) } : {}),
    ...(tags ? { tags: { ...tags } } : {}),
  };
}
