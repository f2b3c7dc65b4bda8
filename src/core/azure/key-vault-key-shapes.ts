/** Keys as the SDK has them, and as we do. */
import type {
  CreateKeyOptions,
  KeyRotationPolicyProperties,
  KeyVaultKey,
  DeletedKey as SdkDeleted,
  JsonWebKey as SdkJwk,
  KeyProperties as SdkProperties,
} from '@azure/keyvault-keys';
import type {
  DeletedKey,
  ImportedKey,
  KeyChanges,
  KeyCurve,
  KeyOperation,
  KeyProperties,
  KeyType,
  KeyVersion,
  NewKey,
  PublicKey,
  RotationPolicy,
} from '../vault/keys.ts';
import type { PrivateKey } from '../vault/private-key.ts';

export function keyOf({ id, keyType, keyOperations, key, properties }: KeyVaultKey): KeyVersion {
  if (id === undefined || keyType === undefined) throw new TypeError('a key without an id');
  return {
    id,
    properties: propertiesOf(properties),
    // Whatever else it may be one day, it is told as the vault tells it.
    type: keyType as KeyType,
    operations: (keyOperations ?? []) as KeyOperation[],
    publicKey: publicKeyOf(key ?? {}),
    exportable: properties.exportable === true,
  };
}

export function propertiesOf(properties: SdkProperties): KeyProperties {
  if (properties.createdOn === undefined) throw new TypeError('a key without attributes');
  return {
    name: properties.name,
    version: properties.version ?? '',
    enabled: properties.enabled ?? true,
    created: properties.createdOn,
    updated: properties.updatedOn ?? properties.createdOn,
    notBefore: properties.notBefore ?? null,
    expiresOn: properties.expiresOn ?? null,
    tags: properties.tags ?? {},
    managed: properties.managed === true,
  };
}

export function deletedOf({ properties }: SdkDeleted): DeletedKey {
  const { deletedOn, scheduledPurgeDate } = properties;
  if (!deletedOn || !scheduledPurgeDate) throw new TypeError('a deletion without dates');
  return { properties: propertiesOf(properties), deletedOn, purgeOn: scheduledPurgeDate };
}

function publicKeyOf({ n, e, crv, x, y }: SdkJwk): PublicKey | null {
  if (n && e) return { kty: 'RSA', n: base64url(n), e: base64url(e) };
  if (!crv || !x || !y) return null;
  return { kty: 'EC', crv: crv as KeyCurve, x: base64url(x), y: base64url(y) };
}

/** What create, import and update have in common. */
export function changesToSdk(changes: KeyChanges): CreateKeyOptions {
  const { enabled, notBefore, expiresOn, tags, operations } = changes;
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(notBefore ? { notBefore } : {}),
    ...(expiresOn ? { expiresOn } : {}),
    ...(tags ? { tags: { ...tags } } : {}),
    ...(operations ? { keyOps: [...operations] } : {}),
  };
}

export function newKeyToSdk({ size, curve, ...rest }: NewKey): CreateKeyOptions {
  return {
    ...changesToSdk(rest),
    ...releaseTermsToSdk(rest),
    ...(size === undefined ? {} : { keySize: size }),
    ...(curve === undefined ? {} : { curve }),
  };
}

export function releaseTermsToSdk({
  exportable,
  releasePolicy,
}: Pick<ImportedKey, 'exportable' | 'releasePolicy'>): Pick<
  CreateKeyOptions,
  'exportable' | 'releasePolicy'
> {
  return {
    ...(exportable === undefined ? {} : { exportable }),
    ...(releasePolicy ? { releasePolicy: { encodedPolicy: releasePolicy } } : {}),
  };
}

/** @param operations those permitted; null: what the vault permits by itself */
export function jwkToSdk(
  { type, curve, members }: PrivateKey,
  operations: readonly KeyOperation[] | null,
): SdkJwk {
  const bytes = Object.entries(members).map(([name, text]) => [
    name,
    Buffer.from(text, 'base64url'),
  ]);
  return {
    kty: type,
    ...(curve === null ? {} : { crv: curve }),
    ...Object.fromEntries(bytes),
    ...(operations === null ? {} : { keyOps: [...operations] }),
  };
}

export function policyOf({
  expiresIn,
  lifetimeActions = [],
}: KeyRotationPolicyProperties): RotationPolicy {
  return {
    expiresIn: expiresIn ?? null,
    actions: lifetimeActions.map(({ action, timeAfterCreate, timeBeforeExpiry }) => ({
      action,
      ...(timeAfterCreate ? { timeAfterCreate } : {}),
      ...(timeBeforeExpiry ? { timeBeforeExpiry } : {}),
    })),
  };
}

export function policyToSdk({ expiresIn, actions }: RotationPolicy): KeyRotationPolicyProperties {
  return {
    ...(expiresIn === null ? {} : { expiresIn }),
    lifetimeActions: actions.map((action) => ({ ...action })),
  };
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}
