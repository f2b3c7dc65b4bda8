import type { Certificate } from './certificate.ts';
import { type CertificateSettings, noCertificateSettings } from './certificate-settings.ts';
import type { Key } from './keys.ts';
import type { Secret } from './secrets.ts';
import { ObjectStore, type ObjectType, type Stored, type StoreSnapshot } from './store.ts';
import { defaultSwitches, type SwitchChanges, type Switches } from './switches.ts';

/** What a vault is made with. */
export type VaultSettings = {
  readonly name: string;
  readonly retentionDays: number;
  readonly location: string;
} & SwitchChanges;

/** One vault: its settings, its switches and its objects. */
export type Vault = Pick<VaultSettings, 'name' | 'retentionDays' | 'location'> &
  Switches & {
    /** What ids start with; no slash at the end. Known once the vault listens. */
    publicUrl: string;
    readonly secrets: ObjectStore<Secret>;
    readonly keys: ObjectStore<Key>;
    readonly certificates: ObjectStore<Certificate>;
    readonly certificateSettings: CertificateSettings;
  };

/** Everything of a vault that outlives the process. Ids are not in it: they follow the URL of the day. */
export type VaultSnapshot = {
  readonly secrets: StoreSnapshot<Secret>;
  readonly keys: StoreSnapshot<Key>;
  readonly certificates: StoreSnapshot<Certificate>;
  readonly certificateSettings?: CertificateSettings;
};

/** @param clock milliseconds since 1970 */
export function createVault(settings: VaultSettings, clock: () => number = Date.now): Vault {
  if (!/^[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]$/i.test(settings.name)) {
    throw new Error(`"${settings.name}" is no vault name: 3 to 24 letters, digits and hyphens.`);
  }
  if (!(settings.retentionDays >= 7 && settings.retentionDays <= 90)) {
    throw new Error(`Vault ${settings.name}: retentionDays must be 7 to 90.`);
  }
  return {
    ...defaultSwitches,
    ...settings,
    publicUrl: '',
    secrets: new ObjectStore(clock),
    keys: new ObjectStore(clock),
    certificates: new ObjectStore(clock),
    certificateSettings: noCertificateSettings(),
  };
}

/**
 * The same vault, which tells another URL as its own: the one under which a client of another port knows it. To be
 * read only: what is set on it is not set on the vault.
 */
export function seenAt(vault: Vault, publicUrl: string): Vault {
  return Object.create(vault, { publicUrl: { value: publicUrl, enumerable: true } });
}

/** What can be asked of a store without knowing what its objects hold. */
export function storeOf(
  vault: Vault,
  type: ObjectType,
): Pick<ObjectStore<Stored>, 'find' | 'size' | 'list' | 'listDeleted' | 'settle'> {
  const stores = { Secret: vault.secrets, Key: vault.keys, Certificate: vault.certificates };
  return stores[type];
}

export function snapshotOf({ secrets, keys, certificates, ...vault }: Vault): VaultSnapshot {
  return {
    secrets: secrets.snapshot(),
    keys: keys.snapshot(),
    certificates: certificates.snapshot(),
    certificateSettings: vault.certificateSettings,
  };
}

export function loadInto(vault: Vault, snapshot: VaultSnapshot): void {
  vault.secrets.load(snapshot.secrets);
  vault.keys.load(snapshot.keys);
  vault.certificates.load(snapshot.certificates);
  Object.assign(vault.certificateSettings, noCertificateSettings(), snapshot.certificateSettings);
}

/** The resource id by which Azure Resource Manager and Event Grid know the vault. */
export function resourceId({
  name,
  subscriptionId,
}: Pick<Vault, 'name' | 'subscriptionId'>): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/local/providers/Microsoft.KeyVault/vaults/${name}`;
}
