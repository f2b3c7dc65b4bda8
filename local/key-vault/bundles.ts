import { z } from 'zod';
import { errors } from './errors.ts';
import type { Deleted, Stored, Version } from './store.ts';
import type { Vault } from './vault.ts';

// What the bodies of secrets, keys and certificates have in common.

/** The SDK's date that overflowed (year 2038) comes as a negative number; it is refused like any other nonsense. */
const Seconds = z.int().min(0).nullish();

/** `attributes` of a request; members that only the service sets are ignored. */
export const AttributesInput = z
  .object({ enabled: z.boolean().nullish(), nbf: Seconds, exp: Seconds })
  .nullish();

export const TagsInput = z
  .record(z.string().max(512), z.string().max(512))
  .refine((tags) => Object.keys(tags).length <= 15)
  .nullish();

/** @throws VaultError 400 that names the first faulty property */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw errors.badProperty(parsed.error.issues[0]?.path.join('.') ?? '');
}

/** The attributes of a request as members of a stored version; what the request does not say is absent. */
export function attributesFrom(
  input: z.output<typeof AttributesInput>,
): Partial<Pick<Version, 'enabled' | 'nbf' | 'exp'>> {
  return {
    ...(typeof input?.enabled === 'boolean' ? { enabled: input.enabled } : {}),
    ...(typeof input?.nbf === 'number' ? { nbf: input.nbf } : {}),
    ...(typeof input?.exp === 'number' ? { exp: input.exp } : {}),
  };
}

/**
 * `attributes` and `tags` of an answer; tags are left out when there are none.
 *
 * @param ofType attributes that only versions of this type have
 */
export function describe(
  vault: Vault,
  version: Version,
  ofType: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const { enabled, nbf, exp, created, updated, tags } = version;
  const attributes = {
    enabled,
    ...(nbf === undefined ? {} : { nbf }),
    ...(exp === undefined ? {} : { exp }),
    created,
    updated,
    recoveryLevel: recoveryLevel(vault),
    recoverableDays: vault.retentionDays,
    ...ofType,
  };
  const hasTags = tags !== undefined && Object.keys(tags).length > 0;
  return { attributes, ...(hasTags ? { tags } : {}) };
}

/** The three members that a deleted object has on top. */
export function describeDeletion(
  vault: Vault,
  collection: string,
  deleted: Deleted<Stored>,
): Record<string, unknown> {
  return {
    recoveryId: `${vault.publicUrl}/deleted${collection}/${deleted.name}`,
    deletedDate: deleted.deletedDate,
    scheduledPurgeDate: deleted.scheduledPurgeDate,
  };
}

function recoveryLevel(vault: Vault): string {
  const days = vault.retentionDays < 90 ? 'CustomizedRecoverable' : 'Recoverable';
  return vault.purgeProtection ? days : `${days}+Purgeable`;
}
