import type { TokenCredential } from '@azure/identity';
import { AppError } from '../errors.ts';
import type { Limits } from '../vault/pipeline.ts';
import type { Vault, VaultPurpose, Vaults } from '../vault/ports.ts';
import { azureSecrets } from './key-vault-secrets.ts';

export interface VaultAddress {
  readonly alias: string;
  readonly url: string;
  readonly purpose: VaultPurpose;
}

/** The configured vaults; nothing is asked of them before the first call. */
export function createVaults(
  config: readonly VaultAddress[],
  credential: TokenCredential,
  limits?: Limits,
): Vaults {
  const vaults = new Map<string, Vault>();
  for (const address of config) {
    vaults.set(address.alias, { ...address, secrets: azureSecrets(address, credential, limits) });
  }
  return {
    get: (alias) => {
      const vault = vaults.get(alias);
      if (vault === undefined) throw new AppError('not_found', { detail: `vault ${alias}` });
      return vault;
    },
    all: () => [...vaults.values()],
  };
}
