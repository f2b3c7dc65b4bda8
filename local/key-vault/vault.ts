import type { SecretVersion } from './secrets.ts';
import { ObjectStore, type ObjectType, type StoreSnapshot, type Version } from './store.ts';

export type VaultSettings = {
  readonly name: string;
  readonly retentionDays: number;
  readonly purgeProtection: boolean;
  readonly location: string;
};

/** One vault: its settings and its objects. Further object types are further members. */
export type Vault = VaultSettings & {
  /** What ids start with; no slash at the end. Known once the vault listens. */
  publicUrl: string;
  readOnly: boolean;
  readonly secrets: ObjectStore<SecretVersion>;
};

/** Everything of a vault that outlives the process. Ids are not in it: they follow the URL of the day. */
export type VaultSnapshot = { readonly secrets: StoreSnapshot<SecretVersion> };

export function createVault(settings: VaultSettings): Vault {
  if (!/^[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]$/i.test(settings.name)) {
    throw new Error(`"${settings.name}" is no vault name: 3 to 24 letters, digits and hyphens.`);
  }
  if (!(settings.retentionDays >= 7 && settings.retentionDays <= 90)) {
    throw new Error(`Vault ${settings.name}: retentionDays must be 7 to 90.`);
  }
  return { ...settings, publicUrl: '', readOnly: false, secrets: new ObjectStore() };
}

/** What can be asked of a store without knowing what its objects hold. */
export function storeOf(
  vault: Vault,
  type: ObjectType,
): Pick<ObjectStore<Version>, 'find' | 'list' | 'listDeleted'> {
  const stores = { Secret: vault.secrets } satisfies Record<ObjectType, unknown>;
  return stores[type];
}

export function snapshotOf(vault: Vault): VaultSnapshot {
  return { secrets: vault.secrets.snapshot() };
}

export function loadInto(vault: Vault, snapshot: VaultSnapshot): void {
  vault.secrets.load(snapshot.secrets);
}

/** The resource id by which Azure Resource Manager and Event Grid know the vault. */
export function resourceId(vault: Vault): string {
  return `/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.KeyVault/vaults/${vault.name}`;
}
