/** Key Vault in memory, behind the same interfaces, on a given clock: for tests and for plans. */
import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { Vault, VaultPurpose, Vaults } from '../vault/ports.ts';
import type { CallHook, Shared, VaultAccess, VaultState } from './calls.ts';
import { CertificateStore } from './certificate-store.ts';
import { simulatedCertificates } from './certificates.ts';
import type { KeyStore } from './key-version.ts';
import { simulatedKeys } from './keys.ts';
import { type SecretStore, simulatedSecrets } from './secrets.ts';
import { ObjectStore } from './store.ts';

export interface SimulatedVaults extends Vaults {
  readonly accesses: readonly VaultAccess[];
  /** One hook at a time; null removes it. */
  onCall(hook: CallHook | null): void;
  /** As a failed-over vault: writes are refused, reads go on. */
  setReadOnly(alias: string, isReadOnly: boolean): void;
  /** Changes of a secret what only the portal or a certificate changes; the latest version unless one is named. */
  change(
    alias: string,
    name: string,
    change: { readonly version?: string; readonly enabled?: boolean; readonly managed?: boolean },
  ): void;
  /** Soft-deletes a secret: the name is taken, the versions are gone until `erase`. */
  softDelete(alias: string, name: string): void;
  /** Names of secrets that are soft-deleted, ordered. */
  deletedNames(alias: string): readonly string[];
}

/** Simulated vaults; empty at first. */
export function simulatedVaults(
  config: readonly { readonly alias: string; readonly purpose: VaultPurpose }[],
  clock: Clock,
): SimulatedVaults {
  const shared: Shared = { clock, accesses: [], hook: null };
  const states = new Map<string, VaultState & { readonly secrets: SecretStore }>();
  const vaults = new Map<string, Vault>();
  for (const { alias, purpose } of config) {
    const place = `in ${alias}`;
    const url = `https://${alias}.vault.simulated`;
    const secrets: SecretStore = new ObjectStore('secret', place);
    const keys: KeyStore = new ObjectStore('key', place);
    const certificates = new CertificateStore(place, keys, secrets);
    const belongsToCertificate = (name: string) => certificates.has(name, clock.now());
    const state = { alias, url, isReadOnly: false, belongsToCertificate, secrets };
    states.set(alias, state);
    vaults.set(alias, {
      ...{ alias, url, purpose },
      secrets: simulatedSecrets(secrets, state, shared),
      keys: simulatedKeys(keys, state, shared),
      certificates: simulatedCertificates(certificates, state, shared),
    });
  }
  return {
    get: (alias) => known(vaults, alias),
    all: () => [...vaults.values()],
    accesses: shared.accesses,
    onCall: (hook) => {
      shared.hook = hook;
    },
    setReadOnly: (alias, isReadOnly) => {
      known(states, alias).isReadOnly = isReadOnly;
    },
    change: (alias, name, { version, ...change }) => {
      const { secrets } = known(states, alias);
      const { value, properties } = secrets.get(name, version);
      secrets.replace({ value, properties: { ...properties, ...change } });
    },
    softDelete: (alias, name) => {
      known(states, alias).secrets.delete(name, clock.now());
    },
    deletedNames: (alias) =>
      known(states, alias)
        .secrets.listDeleted(clock.now())
        .map(({ latest }) => latest.properties.name),
  };
}

function known<T>(byAlias: ReadonlyMap<string, T>, alias: string): T {
  const found = byAlias.get(alias);
  if (found === undefined) throw new AppError('not_found', { detail: `vault ${alias}` });
  return found;
}
