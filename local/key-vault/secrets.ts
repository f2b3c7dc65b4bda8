import { z } from 'zod';
import {
  AttributesInput,
  attributesFrom,
  describe,
  describeDeletion,
  parseBody,
  TagsInput,
} from './bundles.ts';
import { errors } from './errors.ts';
import { type Answer, type Call, nameOf, type Operation, versionOf } from './operation.ts';
import { pageOf } from './paging.ts';
import {
  currentVersion,
  type DeletedObject,
  findVersion,
  keyOf,
  newVersionId,
  type StoredObject,
  type Version,
} from './store.ts';
import type { Vault } from './vault.ts';

export type SecretVersion = Version & { readonly value: string; contentType?: string };

const maxValueBytes = 25_600;

const ContentType = z.string().max(255).nullish();
const SetBody = z.object({
  value: z.string(),
  contentType: ContentType,
  tags: TagsInput,
  attributes: AttributesInput,
});
const UpdateBody = SetBody.omit({ value: true });

export const secretOperations: readonly Operation[] = [
  {
    id: 'setSecret',
    serviceName: 'SecretSet',
    method: 'PUT',
    template: '/secrets/{name}',
    effect: 'write',
    run: setSecret,
  },
  {
    id: 'getSecret',
    serviceName: 'SecretGet',
    method: 'GET',
    template: '/secrets/{name}/{version}',
    effect: 'read',
    run: getSecret,
  },
  {
    id: 'updateSecret',
    serviceName: 'SecretUpdate',
    method: 'PATCH',
    template: '/secrets/{name}/{version}',
    effect: 'write',
    run: updateSecret,
  },
  {
    id: 'deleteSecret',
    serviceName: 'SecretDelete',
    method: 'DELETE',
    template: '/secrets/{name}',
    effect: 'write',
    run: deleteSecret,
  },
  {
    id: 'getSecrets',
    serviceName: 'SecretList',
    method: 'GET',
    template: '/secrets',
    effect: 'read',
    run: getSecrets,
  },
  {
    id: 'getSecretVersions',
    serviceName: 'SecretListVersions',
    method: 'GET',
    template: '/secrets/{name}/versions',
    effect: 'read',
    run: getSecretVersions,
  },
  {
    id: 'getDeletedSecret',
    serviceName: 'SecretGetDeleted',
    method: 'GET',
    template: '/deletedsecrets/{name}',
    effect: 'read',
    run: getDeletedSecret,
  },
  {
    id: 'getDeletedSecrets',
    serviceName: 'SecretListDeleted',
    method: 'GET',
    template: '/deletedsecrets',
    effect: 'read',
    run: getDeletedSecrets,
  },
  {
    id: 'recoverDeletedSecret',
    serviceName: 'SecretRecover',
    method: 'POST',
    template: '/deletedsecrets/{name}/recover',
    effect: 'write',
    run: recoverDeletedSecret,
  },
  {
    id: 'purgeDeletedSecret',
    serviceName: 'SecretPurge',
    method: 'DELETE',
    template: '/deletedsecrets/{name}',
    effect: 'write',
    run: purgeDeletedSecret,
  },
];

function setSecret(call: Call): Answer {
  const { vault, now } = call;
  const name = nameOf(call);
  const input = parseBody(SetBody, call.body);
  if (Buffer.byteLength(input.value) > maxValueBytes) {
    throw errors.badParameter(`Secret value is too long. Maximum allowed is ${maxValueBytes}.`);
  }
  if (vault.secrets.findDeleted(name, now) !== null) {
    throw errors.deletedButRecoverable('Secret', name);
  }
  const version: SecretVersion = {
    version: newVersionId(),
    value: input.value,
    enabled: true,
    created: now,
    updated: now,
    ...attributesFrom(input.attributes),
    ...details(input),
  };
  const secret = vault.secrets.add(name, version);
  call.changed({ type: 'Secret', object: secret, event: 'new-version' });
  return answer(version, withValue(vault, secret, version));
}

function getSecret(call: Call): Answer {
  const { secret, version } = target(call);
  if (!version.enabled) throw errors.disabled('Secret', 'get');
  return answer(version, withValue(call.vault, secret, version));
}

function updateSecret(call: Call): Answer {
  const { secret, version } = target(call);
  const input = parseBody(UpdateBody, call.body ?? {});
  Object.assign(version, attributesFrom(input.attributes), details(input), { updated: call.now });
  call.changed({ type: 'Secret', object: secret });
  return answer(version, bundle(call.vault, secret, version));
}

function deleteSecret(call: Call): Answer {
  const { vault } = call;
  const name = nameOf(call);
  const secret = vault.secrets.find(name);
  if (secret === null) throw errors.notFound('Secret', name);
  const deleted = vault.secrets.delete(secret, call.now, vault.retentionDays);
  call.changed({ type: 'Secret', object: secret });
  return answer(currentVersion(deleted), deletedBundle(vault, deleted));
}

function getSecrets(call: Call): Answer {
  const items = call.vault.secrets.list().map((secret) => ({
    item: listItem(call.vault, secret),
    marker: `secret/${keyOf(secret.name)}`,
  }));
  return { body: pageOf(call, 'secrets', items) };
}

function getSecretVersions(call: Call): Answer {
  const { vault } = call;
  const name = nameOf(call);
  const secret = vault.secrets.find(name);
  // By id and not by age: the real service promises no order, and nobody shall rely on one.
  const versions = (secret?.versions ?? []).toSorted((a, b) => (a.version < b.version ? -1 : 1));
  const items = versions.map((version) => ({
    item: bundle(vault, { name: secret?.name ?? name }, version),
    marker: `secret/${keyOf(name)}/${version.version}`,
  }));
  return { body: pageOf(call, `secrets/${name}/versions`, items) };
}

function getDeletedSecret(call: Call): Answer {
  const deleted = deletedTarget(call);
  return answer(currentVersion(deleted), deletedBundle(call.vault, deleted));
}

function getDeletedSecrets(call: Call): Answer {
  const { vault } = call;
  const items = vault.secrets.listDeleted(call.now).map((deleted) => ({
    item: { ...listItem(vault, deleted), ...describeDeletion(vault, 'secrets', deleted) },
    marker: `secret/${keyOf(deleted.name)}`,
  }));
  return { body: pageOf(call, 'deletedsecrets', items) };
}

function recoverDeletedSecret(call: Call): Answer {
  const { vault } = call;
  const secret = vault.secrets.recover(deletedTarget(call));
  call.changed({ type: 'Secret', object: secret });
  const version = currentVersion(secret);
  return answer(version, bundle(vault, secret, version));
}

function purgeDeletedSecret(call: Call): Answer {
  const { vault } = call;
  const deleted = deletedTarget(call);
  if (vault.purgeProtection) throw errors.purgeProtected(vault.name, vault.location);
  vault.secrets.purge(deleted);
  call.changed({ type: 'Secret', object: deleted });
  return { status: 204 };
}

function target(call: Call): { secret: StoredObject<SecretVersion>; version: SecretVersion } {
  const name = nameOf(call);
  const wanted = versionOf(call);
  const secret = call.vault.secrets.find(name);
  const version = secret === null ? null : findVersion(secret, wanted);
  if (secret === null || version === null) {
    throw errors.notFound('Secret', wanted === '' ? name : `${name}/${wanted}`);
  }
  return { secret, version };
}

function deletedTarget(call: Call): DeletedObject<SecretVersion> {
  const name = nameOf(call);
  const deleted = call.vault.secrets.findDeleted(name, call.now);
  if (deleted === null) throw errors.deletedNotFound('Secret', name);
  return deleted;
}

function details(
  input: z.output<typeof UpdateBody>,
): Partial<Pick<SecretVersion, 'contentType' | 'tags'>> {
  return {
    ...(typeof input.contentType === 'string' ? { contentType: input.contentType } : {}),
    ...(input.tags ? { tags: input.tags } : {}),
  };
}

function bundle(
  vault: Vault,
  { name }: Pick<StoredObject<SecretVersion>, 'name'>,
  version: SecretVersion,
): Record<string, unknown> {
  const { contentType } = version;
  return {
    ...(contentType === undefined ? {} : { contentType }),
    id: `${vault.publicUrl}/secrets/${name}/${version.version}`,
    ...describe(vault, version),
  };
}

function withValue(
  vault: Vault,
  secret: StoredObject<SecretVersion>,
  version: SecretVersion,
): Record<string, unknown> {
  return { value: version.value, ...bundle(vault, secret, version) };
}

function deletedBundle(
  vault: Vault,
  deleted: DeletedObject<SecretVersion>,
): Record<string, unknown> {
  return {
    ...describeDeletion(vault, 'secrets', deleted),
    ...bundle(vault, deleted, currentVersion(deleted)),
  };
}

/** Attributes of the current version, even a disabled one, under the id without a version. */
function listItem(vault: Vault, secret: StoredObject<SecretVersion>): Record<string, unknown> {
  return {
    ...bundle(vault, secret, currentVersion(secret)),
    id: `${vault.publicUrl}/secrets/${secret.name}`,
  };
}

function answer(version: SecretVersion, body: unknown): Answer {
  return { body, version: version.version };
}
