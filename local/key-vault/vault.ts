import type { Certificate } from './certificates.ts';
import type { Key } from './keys.ts';
import type { Secret } from './secrets.ts';
import { ObjectStore, type ObjectType, type Stored, type StoreSnapshot } from './store.ts';

export type VaultSettings = {
  readonly name: string;
  readonly retentionDays: number;
  readonly purgeProtection: boolean;
  readonly location: string;
  /** A backup made in one subscription or geography cannot be restored in another. */
  readonly subscriptionId: string;
  readonly geography: string;
};

/** One vault: its settings and its objects. */
export type Vault = VaultSettings & {
  /** What ids start with; no slash at the end. Known once the vault listens. */
  publicUrl: string;
  readOnly: boolean;
  readonly secrets: ObjectStore<Secret>;
  readonly keys: ObjectStore<Key>;
  readonly certificates: ObjectStore<Certificate>;
};

/** Everything of a vault that outlives the process. Ids are not in it: they follow the URL of the day. */
export type VaultSnapshot = {
  readonly secrets: StoreSnapshot<Secret>;
  readonly keys: StoreSnapshot<Key>;
  readonly certificates: StoreSnapshot<Certificate>;
};

export function createVault(settings: VaultSettings): Vault {
  if (!/^[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]$/i.test(settings.name)) {
    throw new Error(`"${settings.name}" is no vault name: 3 to 24 letters, digits and hyphens.`);
  }
  if (!(settings.retentionDays >= 7 && settings.retentionDays <= 90)) {
    throw new Error(`Vault ${settings.name}: retentionDays must be 7 to 90.`);
  }
  return {
    ...settings,
    publicUrl: '',
    readOnly: false,
    secrets: new ObjectStore(),
    keys: new ObjectStore(),
    certificates: new ObjectStore(),
  };
}

/** What can be asked of a store without knowing what its objects hold. */
export function storeOf(
  vault: Vault,
  type: ObjectType,
): Pick<ObjectStore<Stored>, 'find' | 'list' | 'listDeleted'> {
  const stores = { Secret: vault.secrets, Key: vault.keys, Certificate: vault.certificates };
  return stores[type];
}

export function snapshotOf({ secrets, keys, certificates }: Vault): VaultSnapshot {
  return {
    secrets: secrets.snapshot(),
    keys: keys.snapshot(),
    certificates: certificates.snapshot(),
  };
}

export function loadInto(vault: Vault, snapshot: VaultSnapshot): void {
  vault.secrets.load(snapshot.secrets);
  vault.keys.load(snapshot.keys);
  vault.certificates.load(snapshot.certificates);
}

/** The resource id by which Azure Resource Manager and Event Grid know the vault. */
export function resourceId({ name, subscriptionId }: Vault): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/local/providers/Microsoft.KeyVault/vaults/${name}`;
}
