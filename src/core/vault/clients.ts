/** The configured vaults as their users see them: reads are cached, and fail over where there is a second vault. */
import { type Clock, systemClock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { Answering } from './answer.ts';
import type { ObjectCache } from './cache.ts';
import { type CacheTools, cachedCertificates, cachedKeys, cachedSecrets } from './cached.ts';
import type { VaultHealth } from './calls.ts';
import type { CertificateService } from './certificates.ts';
import { failover, type Readable } from './failover.ts';
import type { KeyService } from './keys.ts';
import { localKeys } from './local-keys.ts';
import type { Observer } from './observer.ts';
import type { SecretService, Vault, Vaults } from './ports.ts';
import { serviceKind } from './service-kind.ts';

/** A vault that is called for every answer. */
export interface DirectVault extends Vault {
  /** Null unless one is configured. */
  readonly secondary: Vault | null;
  health(): VaultHealth;
}

export interface DirectVaults extends Vaults {
  get(alias: string): DirectVault;
  all(): readonly DirectVault[];
}

/** A vault whose answers say where they came from. */
export interface ClientVault extends Vault {
  readonly secrets: Answering<SecretService>;
  readonly keys: Answering<KeyService>;
  readonly certificates: Answering<CertificateService>;
  health(): VaultHealth;
}

export interface ClientVaults extends Vaults {
  get(alias: string): ClientVault;
  all(): readonly ClientVault[];
}

export interface ClientTools {
  readonly cache: ObjectCache;
  /** As `Invalidations.publish`; without it, only the cache here learns of writes. */
  readonly publish?: (objects: readonly string[]) => Promise<void>;
  readonly observer?: Observer;
  /** By which keys come into force and expire. */
  readonly clock?: Clock;
}

/** `direct`, behind one cache. */
export function clientVaults(direct: DirectVaults, tools: ClientTools): ClientVaults {
  const vaults = new Map(direct.all().map((vault) => [vault.alias, clientVault(vault, tools)]));
  return {
    get: (alias) => {
      const vault = vaults.get(alias);
      if (vault === undefined) throw new AppError('not_found', { detail: `vault ${alias}` });
      return vault;
    },
    all: () => [...vaults.values()],
  };
}

function clientVault(
  vault: DirectVault,
  { cache, publish, observer, clock = systemClock }: ClientTools,
): ClientVault {
  const { secondary, ...direct } = vault;
  const dropHere = async (objects: readonly string[]) => {
    for (const object of objects) cache.invalidate(object);
  };
  const tools: CacheTools = { vault, cache, observer, changed: publish ?? dropHere };
  const circuit = () => vault.health().circuit;
  const either = <Service extends Readable>(primary: Service, second: Service | undefined) =>
    second === undefined ? primary : failover(primary, second, circuit);
  // A Managed HSM has keys only: whatever is asked of the others is refused.
  const isVault = serviceKind(vault.url) !== 'managed-hsm';
  return {
    ...direct,
    secrets: isVault
      ? cachedSecrets(either(vault.secrets, secondary?.secrets), tools)
      : (vault.secrets as Answering<SecretService>),
    keys: withLocalWork(cachedKeys(either(vault.keys, secondary?.keys), tools), clock),
    certificates: isVault
      ? cachedCertificates(either(vault.certificates, secondary?.certificates), tools)
      : (vault.certificates as Answering<CertificateService>),
  };
}

/** What needs the public key only is done here, with the key as it is in the cache. */
function withLocalWork(keys: Answering<KeyService>, clock: Clock): Answering<KeyService> {
  return { ...localKeys(keys, { read: keys.get, clock }), get: keys.get };
}
