/** What users of the package as a library import. */
import { processCredential } from './azure/credential.ts';
import { createVaults, type VaultAddress, type VaultOptions } from './azure/key-vault.ts';
import type { DirectVaults } from './vault/clients.ts';

export type { ReplayResult } from './simulation/replay.ts';
export type { AccessLogEntry } from './vault/access-entry.ts';

/** Vaults under the process's own identity; nothing is asked of them before the first call. */
export function openVaults(vaults: readonly VaultAddress[], options: VaultOptions): DirectVaults {
  return createVaults(vaults, processCredential(), options);
}
