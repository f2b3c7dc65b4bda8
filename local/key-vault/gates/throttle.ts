import { errors } from '../errors.ts';
import { type Exchange, type Gate, routeOf } from '../exchange.ts';
import { type KeySpec, specOf } from '../key-material.ts';
import { currentVersion, findVersion } from '../store.ts';
import { chargeOf } from '../throttling.ts';

/** Whether the vault, or its subscription, has calls left for now. */
export const throttleGate: Gate = (exchange) => {
  const { vault, service } = exchange.plane;
  const { throttling } = vault;
  if (!throttling.enabled) return null;
  const { operation } = routeOf(exchange);
  const charge = chargeOf(throttling, { operationId: operation.id, key: keyOf(exchange) });
  const customer = { vault: vault.name, subscriptionId: vault.subscriptionId };
  const verdict = service.throttle.admit(throttling, charge, customer, service.now());
  if (verdict === 'admitted') return null;
  const { retryAfterSeconds } = throttling;
  throw errors.throttled(
    verdict === 'vault-limit'
      ? 'VaultRequestTypeLimitReached'
      : 'SubscriptionRequestTypeLimitReached',
    retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) },
  );
};

/** The key that a call uses or makes. */
function keyOf(exchange: Exchange): KeySpec | null {
  const { operation, params } = routeOf(exchange);
  if (!operation.template.startsWith('/keys/{name}')) return null;
  if (operation.id === 'createKey') return wantedKey(exchange.body);
  const key = exchange.plane.vault.keys.find(params['name'] ?? '');
  if (key === null) return null;
  const version = findVersion(key, params['version'] ?? '') ?? currentVersion(key);
  return specOf(version.material);
}

/** What a faulty body asks for does not matter: it is refused soon. */
function wantedKey(body: string): KeySpec | null {
  try {
    const { kty, key_size: size } = JSON.parse(body) as { kty?: unknown; key_size?: unknown };
    const isHsm = typeof kty === 'string' && kty.endsWith('-HSM');
    return {
      kty: isHsm ? 'RSA-HSM' : 'RSA',
      size: typeof size === 'number' ? size : 2048,
    };
  } catch {
    return null;
  }
}
