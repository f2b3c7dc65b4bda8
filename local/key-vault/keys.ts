import { z } from 'zod';
import { AttributesInput, attributesFrom, describe, parseBody, TagsInput } from './bundles.ts';
import { errors } from './errors.ts';
import { ImportedKey, materialFrom } from './key-import.ts';
import {
  curves,
  generateMaterial,
  isHsm,
  type KeyMaterial,
  type KeySpec,
  octSizes,
  publicMembers,
  rsaSizes,
} from './key-material.ts';
import {
  changedReleasePolicy,
  type ReleasePolicy,
  ReleasePolicyInput,
  releaseTerms,
} from './key-release-policy.ts';
import type { RotationPolicy } from './key-rotation-policy.ts';
import { idOf, type Kind, mustBeFree, mustBeOwn, targetOf } from './kind.ts';
import { lifecycleOperations } from './lifecycle.ts';
import { type Answer, type Call, nameOf, type Operation, versionOf } from './operation.ts';
import { currentVersion, newVersionId, type StoredObject, type Version } from './store.ts';
import type { Vault } from './vault.ts';

/** What a key may be used for, as `key_ops` of a JWK says it. */
export const KeyUse = z.enum([
  'encrypt',
  'decrypt',
  'sign',
  'verify',
  'wrapKey',
  'unwrapKey',
  'import',
  'export',
]);
export type KeyUse = z.output<typeof KeyUse>;

export type KeyVersion = Version & {
  readonly material: KeyMaterial;
  keyOps: readonly KeyUse[];
  /** It may leave the vault, as its release policy says. */
  readonly exportable?: true;
  releasePolicy?: ReleasePolicy;
};
export type Key = StoredObject<KeyVersion> & { rotationPolicy?: RotationPolicy };

const KeyOps = z.array(KeyUse).max(KeyUse.options.length).nullish();
const Common = z.object({
  attributes: AttributesInput.unwrap()
    .unwrap()
    .extend({ exportable: z.boolean().nullish() })
    .nullish(),
  tags: TagsInput,
  release_policy: ReleasePolicyInput,
});
const CreateBody = Common.extend({
  kty: z.enum(['RSA', 'RSA-HSM', 'EC', 'EC-HSM', 'oct', 'oct-HSM']),
  key_size: z.int().nullish(),
  crv: z.enum(curves).nullish(),
  public_exponent: z
    .int()
    .min(3)
    .max(2 ** 31 - 1)
    .refine((exponent) => exponent % 2 === 1)
    .nullish(),
  key_ops: KeyOps,
});
const ImportBody = Common.extend({
  key: ImportedKey.extend({ key_ops: KeyOps }),
  Hsm: z.boolean().nullish(),
});
const UpdateBody = Common.extend({ key_ops: KeyOps });

export const keyKind: Kind<Key> = {
  type: 'Key',
  collection: 'keys',
  idMember: 'kid',
  readAction: 'keys/read',
  storeOf: ({ keys }) => keys,
  item: ({ managed }) => (managed === undefined ? {} : { managed }),
  attributes: ({ exportable = false, material }) => ({
    exportable,
    hsmPlatform: isHsm(material) ? '2' : '0',
  }),
  bundle: (vault, { name }, version) => {
    const { material, keyOps, releasePolicy } = version;
    return {
      key: {
        kid: idOf(vault, keyKind, name, version.version),
        kty: material.kty,
        key_ops: keyOps,
        ...publicMembers(material),
      },
      ...describe(vault, version, keyKind.attributes?.(version)),
      ...keyKind.item(version),
      ...(releasePolicy === undefined ? {} : { release_policy: releasePolicy }),
    };
  },
};

export const keyOperations: readonly Operation[] = [
  {
    id: 'createKey',
    action: 'keys/create/action',
    serviceName: 'KeyCreate',
    method: 'POST',
    template: '/keys/{name}/create',
    effect: 'write',
    run: createKey,
  },
  {
    id: 'importKey',
    action: 'keys/import/action',
    serviceName: 'KeyImport',
    method: 'PUT',
    template: '/keys/{name}',
    effect: 'write',
    run: importKey,
  },
  {
    id: 'getKey',
    action: 'keys/read',
    serviceName: 'KeyGet',
    method: 'GET',
    template: '/keys/{name}/{version}',
    effect: 'read',
    run: getKey,
  },
  {
    id: 'updateKey',
    action: 'keys/update/action',
    serviceName: 'KeyUpdate',
    method: 'PATCH',
    template: '/keys/{name}/{version}',
    effect: 'write',
    run: updateKey,
  },
  ...lifecycleOperations(keyKind),
];

/** The key of a certificate version. */
export type ManagedKey = Pick<
  KeyVersion,
  'version' | 'material' | 'keyOps' | 'enabled' | 'created' | 'updated'
> &
  Partial<Pick<KeyVersion, 'nbf' | 'exp' | 'tags'>>;

/**
 * Adds the key of a certificate version as a version of the key of that name, marked as managed. The caller has made
 * sure that the name is free or the certificate's own, and reports the change.
 *
 * `material` comes from `generateMaterial`, or from `materialOf` for a private key of node:crypto (an imported PFX);
 * `keyObjectOf(version.material)` gives the key back, to sign a CSR or a certificate with it.
 */
export function addManagedKey(vault: Vault, name: string, version: ManagedKey): Key {
  return addKeyVersion(vault, name, { ...version, managed: true });
}

/** The newest version of the key of that name, which may be new. */
function addKeyVersion(vault: Vault, name: string, version: KeyVersion): Key {
  const key = vault.keys.find(name) ?? vault.keys.put({ name, versions: [] });
  key.versions.push(version);
  return key;
}

async function createKey(call: Call): Promise<Answer> {
  const name = nameOf(call);
  const input = parseBody(CreateBody, call.body);
  const spec = specFrom(input);
  mustAcceptVersion(call, name, 'create');
  termsFor(call, name, input, spec.kty);
  const material = await generateMaterial(spec);
  // While it was made the name may have been deleted, or become a certificate's.
  mustAcceptVersion(call, name, 'create');
  return addAndAnswer(call, name, { material, input, keyOps: input.key_ops });
}

function importKey(call: Call): Answer {
  const name = nameOf(call);
  const input = parseBody(ImportBody, call.body);
  const material = materialFrom(input.key, input.Hsm ?? false);
  mustAcceptVersion(call, name, 'import');
  return addAndAnswer(call, name, { material, input, keyOps: input.key.key_ops });
}

function getKey(call: Call): Answer {
  const { object, version } = targetOf(keyKind, call);
  return answer(version, keyKind.bundle(call.vault, object, version));
}

function updateKey(call: Call): Answer {
  const { object, version } = targetOf(keyKind, call);
  mustBeOwn('Key', object, 'update');
  const input = parseBody(UpdateBody, call.body ?? {});
  const isExportable = version.exportable ?? false;
  if ((input.attributes?.exportable ?? isExportable) !== isExportable) {
    throw errors.badParameter('AKV.SKR.1014: Cannot modify the exportable state of a key.');
  }
  const releasePolicy = changedReleasePolicy(input.release_policy, version, versionOf(call));
  Object.assign(version, {
    ...attributesFrom(input.attributes),
    ...(input.key_ops ? { keyOps: input.key_ops } : {}),
    ...(input.tags ? { tags: input.tags } : {}),
    ...(releasePolicy === null ? {} : { releasePolicy }),
    updated: call.now,
  });
  call.changed({ type: 'Key', object });
  return answer(version, keyKind.bundle(call.vault, object, version));
}

/** What to generate for a request. @throws VaultError 400 for a size that there is not */
function specFrom({ kty, ...input }: z.output<typeof CreateBody>): KeySpec {
  switch (kty) {
    case 'RSA':
    case 'RSA-HSM': {
      const { key_size: size, public_exponent: publicExponent } = input;
      return {
        ...{ kty, size: oneOf(rsaSizes, size ?? 2048) },
        ...(publicExponent ? { publicExponent } : {}),
      };
    }
    case 'EC':
    case 'EC-HSM':
      return { kty, crv: input.crv ?? 'P-256' };
    // Symmetric keys are in a HSM always.
    case 'oct':
    case 'oct-HSM':
      return { kty: 'oct-HSM', size: oneOf(octSizes, input.key_size ?? 256) };
  }
}

function oneOf(sizes: readonly number[], size: number): number {
  if (!sizes.includes(size)) throw errors.unsupportedKeySize(size, sizes);
  return size;
}

/** @throws VaultError 409 for a deleted name, 403 for a certificate's */
function mustAcceptVersion(call: Call, name: string, operation: string): void {
  mustBeFree(keyKind, call, name);
  const existing = call.vault.keys.find(name);
  if (existing !== null) mustBeOwn('Key', existing, operation);
  // Also the name of a certificate that is only being made.
  else if (call.vault.certificates.find(name) !== null)
    throw errors.managedByCertificate('Key', operation);
}

function termsFor(
  { vault }: Call,
  name: string,
  { attributes, release_policy: policy }: z.output<typeof Common>,
  kty: KeyMaterial['kty'],
): Pick<KeyVersion, 'exportable' | 'releasePolicy'> {
  const existing = vault.keys.find(name);
  const earlier = existing === null ? null : currentVersion(existing);
  return releaseTerms({ exportable: attributes?.exportable, policy, kty }, earlier);
}

type NewVersion = {
  readonly material: KeyMaterial;
  readonly keyOps: readonly KeyUse[] | null | undefined;
  readonly input: z.output<typeof Common>;
};

function addAndAnswer(call: Call, name: string, wish: NewVersion): Answer {
  const { material, input } = wish;
  const version: KeyVersion = {
    version: newVersionId(),
    material,
    keyOps: wish.keyOps ?? defaultKeyOps(material.kty),
    enabled: true,
    created: call.now,
    updated: call.now,
    ...attributesFrom(input.attributes),
    ...(input.tags ? { tags: input.tags } : {}),
    ...termsFor(call, name, input, material.kty),
  };
  const key = addKeyVersion(call.vault, name, version);
  call.changed({ type: 'Key', object: key, event: 'new-version' });
  return answer(version, keyKind.bundle(call.vault, key, version));
}

function defaultKeyOps(kty: KeyMaterial['kty']): readonly KeyUse[] {
  switch (kty) {
    case 'RSA':
    case 'RSA-HSM':
      return ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
    case 'EC':
    case 'EC-HSM':
      return ['sign', 'verify'];
    case 'oct-HSM':
      return ['wrapKey', 'unwrapKey', 'decrypt', 'encrypt'];
  }
}

function answer(version: KeyVersion, body: unknown): Answer {
  return { body, version: version.version };
}
