import { z } from 'zod';
import type { KeySpec } from './key-material.ts';

// The published limits: transactions in ten seconds, for each vault and region. What a call costs is one part of the
// limit of its own kind, so that an operation with an RSA key of 4096 bits weighs as much as several with one of 2048.

const Limit = z.number().positive();

/** Thresholds by size of the key. */
function keyLimits(rsa2048: number, rsa3072: number, rsa4096: number) {
  const fields = {
    rsa2048: Limit.default(rsa2048),
    rsa3072: Limit.default(rsa3072),
    rsa4096: Limit.default(rsa4096),
    /** Elliptic curves, and symmetric keys, of which no limit is published. */
    other: Limit.default(rsa2048),
  };
  return z.strictObject(fields).prefault({});
}

const Limits = z.strictObject({
  /** Creating secrets, importing keys and certificates. */
  secretCreate: Limit.default(300),
  hsmKeyCreate: Limit.default(10),
  softwareKeyCreate: Limit.default(20),
  hsmKey: keyLimits(2000, 500, 250),
  softwareKey: keyLimits(4000, 1000, 500),
  other: Limit.default(4000),
});

export const Throttling = z.strictObject({
  enabled: z.boolean(),
  windowSeconds: z.number().positive().max(3600).default(10),
  /** How many vaults' worth all vaults of a subscription have together. */
  subscriptionFactor: z.number().positive().default(5),
  /** The real service sends no Retry-After. */
  retryAfterSeconds: z.int().min(0).optional(),
  limits: Limits.prefault({}),
});
export type Throttling = z.output<typeof Throttling>;

/** What a call draws from: calls with one bucket are summed. */
export type Charge = {
  readonly bucket: keyof Throttling['limits'];
  /** How many such calls fill the bucket in one window. */
  readonly limit: number;
};

export type ChargedCall = {
  readonly operationId: string;
  /** The key that the call uses or makes; `null` when it is about no key. */
  readonly key: KeySpec | null;
};

const secretCreating = new Set(['setSecret', 'importKey', 'importCertificate']);
const keyCreating = new Set(['createKey', 'rotateKey', 'release']);

export function chargeOf({ limits }: Throttling, { operationId, key }: ChargedCall): Charge {
  if (secretCreating.has(operationId))
    return { bucket: 'secretCreate', limit: limits.secretCreate };
  if (key === null) return { bucket: 'other', limit: limits.other };
  const isHsm = key.kty.endsWith('-HSM');
  if (keyCreating.has(operationId)) {
    const bucket = isHsm ? 'hsmKeyCreate' : 'softwareKeyCreate';
    return { bucket, limit: limits[bucket] };
  }
  const bucket = isHsm ? 'hsmKey' : 'softwareKey';
  return { bucket, limit: limits[bucket][sizeClass(key)] };
}

function sizeClass(key: KeySpec): keyof Throttling['limits']['hsmKey'] {
  if (key.kty !== 'RSA' && key.kty !== 'RSA-HSM') return 'other';
  if (key.size <= 2048) return 'rsa2048';
  return key.size <= 3072 ? 'rsa3072' : 'rsa4096';
}

export type Customer = { readonly vault: string; readonly subscriptionId: string };
export type ThrottleVerdict = 'admitted' | 'vault-limit' | 'subscription-limit';

// Parts like 1/300 do not add up to exactly 1.
const tolerance = 1e-9;

/** Counts calls in windows of the emulator's clock; what is refused does not count. */
export class Throttle {
  readonly #used = new Map<string, { readonly window: number; share: number }>();

  /** @param now milliseconds since 1970 */
  admit(throttling: Throttling, charge: Charge, customer: Customer, now: number): ThrottleVerdict {
    const window = Math.floor(now / (throttling.windowSeconds * 1000));
    const part = 1 / charge.limit;
    const ofVault = this.#usage(`vault ${customer.vault} ${charge.bucket}`, window);
    if (ofVault.share + part > 1 + tolerance) return 'vault-limit';
    const ofAll = this.#usage(`subscription ${customer.subscriptionId} ${charge.bucket}`, window);
    if (ofAll.share + part > throttling.subscriptionFactor + tolerance) return 'subscription-limit';
    ofVault.share += part;
    ofAll.share += part;
    return 'admitted';
  }

  /** Every budget is full again. */
  clear(): void {
    this.#used.clear();
  }

  #usage(key: string, window: number): { share: number } {
    const known = this.#used.get(key);
    if (known?.window === window) return known;
    const fresh = { window, share: 0 };
    this.#used.set(key, fresh);
    return fresh;
  }
}
