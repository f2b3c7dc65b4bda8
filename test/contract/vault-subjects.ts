import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { processCredential } from '../../src/core/azure/credential.ts';
import { createVaults } from '../../src/core/azure/key-vault.ts';
import { systemClock } from '../../src/core/clock.ts';
import { type SimulatedVaults, simulatedVaults } from '../../src/core/simulation/vault.ts';
import { vaultBreaker } from '../../src/core/vault/breaker.ts';
import { ObjectCache } from '../../src/core/vault/cache.ts';
import { clientVaults } from '../../src/core/vault/clients.ts';
import { vaultConcurrency } from '../../src/core/vault/concurrency.ts';
import type { Limits } from '../../src/core/vault/pipeline.ts';
import type { Vaults } from '../../src/core/vault/ports.ts';
import type { Ground } from './emulator-client.ts';

/** For calls that must succeed, however busy the machine is. */
export const patient: Limits = {
  perTryMs: 10_000,
  overallMs: 30_000,
  firstDelayMs: 20,
  maxDelayMs: 200,
};

/** An implementer of the vault interfaces, with what only its keeper can do to it. */
export interface Subject {
  readonly vaults: Vaults;
  setReadOnly(isReadOnly: boolean): Promise<void>;
  disable(name: string): Promise<void>;
  softDelete(name: string): Promise<void>;
  deletedNames(): Promise<readonly string[]>;
}

const config = [{ alias: 'main', purpose: 'main' }] as const;

export function simulated(): Subject {
  const vaults: SimulatedVaults = simulatedVaults(config, systemClock);
  return {
    vaults,
    setReadOnly: async (isReadOnly) => vaults.setReadOnly('main', isReadOnly),
    disable: async (name) => vaults.change('main', name, { enabled: false }),
    softDelete: async (name) => vaults.softDelete('main', name),
    deletedNames: async () => vaults.deletedNames('main'),
  };
}

/** The SDK over an emulator with a vault `main`. */
export function adapter(ground: Ground, emulator: KeyVaultEmulator): Subject {
  const url = emulator.vaults[0]?.url ?? '';
  const sdk = ground.secretClient(url);
  return {
    vaults: createVaults([{ alias: 'main', purpose: 'main', url }], processCredential(), {
      limits: patient,
    }),
    setReadOnly: (readOnly) => control(emulator, 'PUT', '/vaults/main/mode', { readOnly }),
    disable: async (name) => {
      const { properties } = await sdk.getSecret(name);
      await sdk.updateSecretProperties(name, properties.version ?? '', { enabled: false });
    },
    softDelete: async (name) => {
      await sdk.beginDeleteSecret(name);
    },
    deletedNames: async () => {
      const names: string[] = [];
      for await (const { name } of sdk.listDeletedSecrets()) names.push(name);
      return names.sort();
    },
  };
}

/** The same behind a cache, with every guard; what its keeper does goes through it, or it would not know. */
export function cached(ground: Ground, emulator: KeyVaultEmulator): Subject {
  const url = emulator.vaults[0]?.url ?? '';
  const direct = createVaults([{ alias: 'main', purpose: 'main', url }], processCredential(), {
    limits: patient,
    breaker: vaultBreaker,
    concurrency: vaultConcurrency,
    budget: { share: 1, transactions: 100_000 },
  });
  const vaults = clientVaults(direct, { cache: new ObjectCache() });
  const { secrets } = vaults.get('main');
  return {
    ...adapter(ground, emulator),
    vaults,
    disable: async (name) => {
      const { properties } = await secrets.get(name);
      await secrets.update(name, properties.version, { enabled: false });
    },
    softDelete: async (name) => {
      await secrets.delete(name);
    },
  };
}

export async function control<T>(
  emulator: KeyVaultEmulator,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const json = body === undefined ? {} : { body: JSON.stringify(body) };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${emulator.controlUrl}${path}`, { method, headers, ...json });
  const text = await answer.text();
  return (text === '' ? null : JSON.parse(text)) as T;
}
