import type { TokenCredential } from '@azure/identity';
import { AppError } from '../errors.ts';
import { type BudgetSettings, createBudgets } from '../vault/budget.ts';
import { type CallSettings, createVaultCaller } from '../vault/calls.ts';
import type { CertificateService } from '../vault/certificates.ts';
import type { DirectVault, DirectVaults } from '../vault/clients.ts';
import { elapsedClock } from '../vault/elapsed.ts';
import type { SecretService, VaultPurpose } from '../vault/ports.ts';
import { absentService, serviceKind } from '../vault/service-kind.ts';
import { azureCertificates } from './key-vault-certificates.ts';
import { azureKeys } from './key-vault-keys.ts';
import { azureSecrets } from './key-vault-secrets.ts';

export interface VaultAddress {
  readonly alias: string;
  readonly url: string;
  readonly purpose: VaultPurpose;
  /** A vault with the same objects, to read from while this one cannot be reached. */
  readonly secondaryUrl?: string | undefined;
}

/** Of the calls to each vault; breaker, room and rate are off unless they are given. */
export interface VaultOptions extends Omit<CallSettings, 'budget'> {
  /** Of each vault; all of them together are taken to share one subscription. */
  readonly budget?: BudgetSettings;
}

/** The configured vaults; nothing is asked of them before the first call. */
export function createVaults(
  config: readonly VaultAddress[],
  credential: TokenCredential,
  options: VaultOptions = {},
): DirectVaults {
  const { clock = elapsedClock(), budget, ...settings } = options;
  const budgets = budget === undefined ? null : createBudgets(budget, clock);
  const open = (vault: VaultAddress) => {
    const caller = createVaultCaller(vault.alias, { ...settings, clock, budget: budgets?.vault() });
    const isHsm = serviceKind(vault.url) === 'managed-hsm';
    return {
      ...vault,
      secrets: isHsm
        ? absentService<SecretService>(vault.alias, 'secrets')
        : azureSecrets(vault, credential, caller),
      keys: azureKeys(vault, credential, caller),
      certificates: isHsm
        ? absentService<CertificateService>(vault.alias, 'certificates')
        : azureCertificates(vault, credential, caller),
      health: caller.health,
    };
  };
  const vaults = new Map<string, DirectVault>();
  for (const { secondaryUrl, ...address } of config) {
    const alias = `${address.alias} (secondary)`;
    const secondary =
      secondaryUrl === undefined ? null : open({ ...address, alias, url: secondaryUrl });
    vaults.set(address.alias, { ...open(address), secondary });
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
