import type { KeyObject } from 'node:crypto';
import { AppError } from '../errors.ts';
import { familyOf } from '../vault/key-algorithms.ts';
import {
  checkImport,
  checkKeyChanges,
  checkKeyName,
  checkNewKey,
  checkRotationPolicy,
  keptType,
} from '../vault/key-rules.ts';
import type {
  ImportedKey,
  KeyChanges,
  KeyOperation,
  KeyProperties,
  KeyService,
  KeyType,
  NewKey,
  RotationPolicy,
} from '../vault/keys.ts';
import { addPeriod, parsePeriod } from '../vault/period.ts';
import { parsePrivateKey } from '../vault/private-key.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { serviceKind } from '../vault/service-kind.ts';
import { pages, performer, type Shared, type VaultState } from './calls.ts';
import { generateKey, specOf } from './key-material.ts';
import { simulatedKeyUse } from './key-use.ts';
import {
  describeKey,
  type KeyStore,
  type KeyTools,
  loadKey,
  type SavedKey,
  type SimulatedKey,
  saveKey,
} from './key-version.ts';
import { simulatedLifecycle } from './lifecycle.ts';
import { newVersion, wholeSeconds } from './store.ts';

const defaultNotification: RotationPolicy['actions'][number] = {
  action: 'Notify',
  timeBeforeExpiry: 'P30D',
};

export function simulatedKeys(store: KeyStore, vault: VaultState, shared: Shared): KeyService {
  const now = () => shared.clock.now();
  const tools = { store, url: vault.url, perform: performer('key', vault, shared), now };
  return {
    ...reading(tools),
    ...making(tools),
    ...simulatedLifecycle(store, tools, {
      checkName: checkKeyName,
      describe: (key: SimulatedKey) => describeKey(vault.url, key),
      save: saveKey,
      load: (saved: SavedKey) => loadKey(saved),
    }),
    ...policies(tools),
    ...simulatedKeyUse(tools),
  };
}

type Part<K extends keyof KeyService> = Pick<KeyService, K>;

function reading({
  store,
  url,
  perform,
  now,
}: KeyTools): Part<'get' | 'list' | 'listVersions' | 'update'> {
  return {
    get: async (name, version) => {
      checkKeyName(name);
      if (version !== undefined) checkVersion(version);
      return perform('get', name, () => describeKey(url, store.get(name, version)));
    },
    list: () =>
      pages(
        () => store.latest().map(({ properties }) => ({ ...properties, version: '' })),
        (work) => perform('list', '', work),
      ),
    listVersions: (name) => {
      checkKeyName(name);
      return pages(
        () => store.versions(name).map(({ properties }) => properties),
        (work) => perform('listVersions', name, work),
      );
    },
    update: async (name, version, changes) => {
      checkKeyName(name);
      checkVersion(version);
      checkKeyChanges(changes);
      return perform('update', name, () => {
        const old = store.get(name, version);
        const changed = {
          ...old,
          properties: changedProperties(old.properties, changes, now()),
          operations: changes.operations ?? old.operations,
        };
        store.replace(changed);
        return describeKey(url, changed);
      });
    },
  };
}

function making({ store, url, perform, now }: KeyTools): Part<'create' | 'import' | 'rotate'> {
  const add = (key: SimulatedKey) => {
    store.add(key);
    return describeKey(url, key);
  };
  return {
    create: async (name, key) => {
      checkKeyName(name);
      checkNewKey(key, serviceKind(url));
      return perform('create', name, async () => {
        store.freeName(name, now());
        const material = await generateKey(key);
        const type = keptType(key.type);
        return add(newKey(store, name, { ...key, type, material }, now()));
      });
    },
    import: async (name, key) => {
      checkKeyName(name);
      const { type, operations, keyObject } = parsePrivateKey(key.key);
      const kept = keptType(type, key.hardwareProtected);
      const wanted = { ...(operations ? { operations } : {}), ...key };
      checkImport(wanted, type, serviceKind(url));
      return perform('import', name, () =>
        add(newKey(store, name, { ...wanted, type: kept, material: keyObject }, now())),
      );
    },
    rotate: async (name) => {
      checkKeyName(name);
      return perform('rotate', name, async () => {
        const { type, material } = store.get(name);
        const made = await generateKey(specOf(type, material));
        return add(rotatedKey(store.get(name), made, now()));
      });
    },
  };
}

function policies({ store, perform }: KeyTools): Part<'getRotationPolicy' | 'setRotationPolicy'> {
  return {
    getRotationPolicy: async (name) => {
      checkKeyName(name);
      return perform('getRotationPolicy', name, () => {
        const { rotationPolicy } = store.get(name);
        return rotationPolicy ?? { expiresIn: null, actions: [defaultNotification] };
      });
    },
    setRotationPolicy: async (name, policy) => {
      checkKeyName(name);
      checkRotationPolicy(policy);
      return perform('setRotationPolicy', name, () => {
        const rotationPolicy = completed(policy);
        store.replace({ ...store.get(name), rotationPolicy });
        return rotationPolicy;
      });
    },
  };
}

function newKey(
  store: KeyStore,
  name: string,
  wanted: Omit<NewKey | ImportedKey, 'type'> & {
    readonly type: KeyType;
    readonly material: KeyObject;
  },
  now: Date,
): SimulatedKey {
  const { type, material, operations = defaultOperations(type), exportable } = wanted;
  const earlier = store.versions(name).length > 0 ? store.get(name) : null;
  if (earlier !== null && (exportable ?? earlier.exportable) !== earlier.exportable) {
    throw new AppError('vault_rejected', { detail: `key ${name}: exportable cannot be changed` });
  }
  const empty: KeyProperties = {
    name: store.freeName(name, now),
    version: newVersion(),
    enabled: true,
    created: wholeSeconds(now),
    updated: wholeSeconds(now),
    notBefore: null,
    expiresOn: null,
    tags: {},
    managed: false,
  };
  return {
    properties: changedProperties(empty, wanted, now),
    type,
    operations: [...operations],
    exportable: exportable ?? earlier?.exportable ?? false,
    material,
    rotationPolicy: earlier?.rotationPolicy ?? null,
  };
}

/** Alike in everything that lasts. */
function rotatedKey(old: SimulatedKey, material: KeyObject, now: Date): SimulatedKey {
  const { expiresIn = null } = old.rotationPolicy ?? {};
  const period = expiresIn === null ? null : parsePeriod(expiresIn);
  return {
    ...old,
    material,
    properties: {
      ...old.properties,
      version: newVersion(),
      enabled: true,
      created: wholeSeconds(now),
      updated: wholeSeconds(now),
      notBefore: null,
      expiresOn: period === null ? null : addPeriod(wholeSeconds(now), period),
    },
  };
}

function changedProperties(
  old: KeyProperties,
  { enabled, notBefore, expiresOn, tags }: KeyChanges,
  now: Date,
): KeyProperties {
  return {
    ...old,
    updated: wholeSeconds(now),
    ...(enabled === undefined ? {} : { enabled }),
    ...(notBefore ? { notBefore: wholeSeconds(notBefore) } : {}),
    ...(expiresOn ? { expiresOn: wholeSeconds(expiresOn) } : {}),
    ...(tags ? { tags: { ...tags } } : {}),
  };
}

/** Every policy notifies somebody. */
function completed({ expiresIn, actions }: RotationPolicy): RotationPolicy {
  const notifies = actions.some(({ action }) => action === 'Notify');
  return { expiresIn, actions: notifies ? [...actions] : [...actions, defaultNotification] };
}

function defaultOperations(type: KeyType): readonly KeyOperation[] {
  switch (familyOf(type)) {
    case 'RSA':
      return ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
    case 'EC':
      return ['sign', 'verify'];
    case 'oct':
      return ['wrapKey', 'unwrapKey', 'decrypt', 'encrypt'];
  }
}
