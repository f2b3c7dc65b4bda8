import { z } from 'zod';
import { AttributesInput, attributesFrom, describe, parseBody, TagsInput } from './bundles.ts';
import { pfxToPem } from './certificate-contents.ts';
import { errors } from './errors.ts';
import { idOf, type Kind, mustBeFree, mustBeOwn, targetOf } from './kind.ts';
import { lifecycleOperations } from './lifecycle.ts';
import { type Answer, type Call, nameOf, type Operation } from './operation.ts';
import { newVersionId, type StoredObject, type Version } from './store.ts';
import type { Vault } from './vault.ts';

export type SecretVersion = Version & {
  readonly value: string;
  contentType?: string;
  /** For that of a certificate: the version before it. */
  readonly previousVersion?: string;
};
export type Secret = StoredObject<SecretVersion>;

const maxValueBytes = 25_600;
const pfxType = 'application/x-pkcs12';
const pemType = 'application/x-pem-file';

const ContentType = z.string().max(255).nullish();
const SetBody = z.object({
  value: z.string(),
  contentType: ContentType,
  tags: TagsInput,
  attributes: AttributesInput,
});
const UpdateBody = SetBody.omit({ value: true });

const secretKind: Kind<Secret> = {
  type: 'Secret',
  collection: 'secrets',
  idMember: 'id',
  readAction: 'secrets/readMetadata/action',
  storeOf: ({ secrets }) => secrets,
  item,
  bundle: (vault, { name }, version) => ({
    ...item(version),
    id: idOf(vault, secretKind, name, version.version),
    ...describe(vault, version),
    ...describeManaged(vault, name, version),
  }),
};

export const secretOperations: readonly Operation[] = [
  {
    id: 'setSecret',
    action: 'secrets/setSecret/action',
    serviceName: 'SecretSet',
    method: 'PUT',
    template: '/secrets/{name}',
    effect: 'write',
    run: setSecret,
  },
  {
    id: 'getSecret',
    action: 'secrets/getSecret/action',
    serviceName: 'SecretGet',
    method: 'GET',
    template: '/secrets/{name}/{version}',
    effect: 'read',
    run: getSecret,
  },
  {
    id: 'updateSecret',
    action: 'secrets/update/action',
    serviceName: 'SecretUpdate',
    method: 'PATCH',
    template: '/secrets/{name}/{version}',
    effect: 'write',
    run: updateSecret,
  },
  ...lifecycleOperations(secretKind),
];

function setSecret(call: Call): Answer {
  const { vault, now } = call;
  const name = nameOf(call);
  const input = parseBody(SetBody, call.body);
  if (Buffer.byteLength(input.value) > maxValueBytes) {
    throw errors.badParameter(`Secret value is too long. Maximum allowed is ${maxValueBytes}.`);
  }
  mustBeFree(secretKind, call, name);
  // Also the name of one that is only being made.
  if (vault.certificates.find(name) !== null) throw errors.managedByCertificate('Secret', 'set');
  const version: SecretVersion = {
    version: newVersionId(),
    value: input.value,
    enabled: true,
    created: now,
    updated: now,
    ...attributesFrom(input.attributes),
    ...details(input),
  };
  const secret = vault.secrets.find(name) ?? vault.secrets.put({ name, versions: [] });
  secret.versions.push(version);
  call.changed({ type: 'Secret', object: secret, event: 'new-version' });
  return answer(version, withValue(vault, secret, version));
}

function getSecret(call: Call): Answer | Promise<Answer> {
  const { object, version } = targetOf(secretKind, call);
  if (!version.enabled) throw errors.disabled('Secret', 'get');
  const reply = (shown: SecretVersion): Answer =>
    answer(version, withValue(call.vault, object, shown));
  const shown = converted(version, call.query.get('outContentType'));
  return shown instanceof Promise ? shown.then(reply) : reply(shown);
}

function updateSecret(call: Call): Answer {
  const { object, version } = targetOf(secretKind, call);
  mustBeOwn('Secret', object, 'update');
  const input = parseBody(UpdateBody, call.body ?? {});
  Object.assign(version, attributesFrom(input.attributes), details(input), { updated: call.now });
  call.changed({ type: 'Secret', object });
  return answer(version, secretKind.bundle(call.vault, object, version));
}

function details(
  input: z.output<typeof UpdateBody>,
): Partial<Pick<SecretVersion, 'contentType' | 'tags'>> {
  return {
    ...(typeof input.contentType === 'string' ? { contentType: input.contentType } : {}),
    ...(input.tags ? { tags: input.tags } : {}),
  };
}

/** Adds the secret of a certificate version; see `addManagedKey`. */
export function addManagedSecret(vault: Vault, name: string, version: SecretVersion): void {
  const secret = vault.secrets.find(name) ?? vault.secrets.put({ name, versions: [] });
  secret.versions.push({ ...version, managed: true });
}

/** Only the PFX of a certificate can be had as something else, and only as PEM. */
function converted(
  version: SecretVersion,
  wanted: string | null,
): SecretVersion | Promise<SecretVersion> {
  const { contentType, managed, value } = version;
  if (wanted === null || wanted === '' || wanted === contentType) return version;
  const isPfx = managed && contentType === pfxType;
  if (!isPfx || wanted !== pemType) throw errors.badProperty('outContentType');
  return pfxToPem(value).then((pem) => ({ ...version, value: pem, contentType: pemType }));
}

function describeManaged(
  vault: Vault,
  name: string,
  { version, managed, previousVersion }: SecretVersion,
): Record<string, unknown> {
  if (managed === undefined) return {};
  return {
    kid: idOf(vault, { collection: 'keys' }, name, version),
    ...(previousVersion === undefined ? {} : { previousVersion }),
  };
}

function withValue(vault: Vault, secret: Secret, version: SecretVersion): Record<string, unknown> {
  return { value: version.value, ...secretKind.bundle(vault, secret, version) };
}

function item({ contentType, managed }: SecretVersion): Record<string, unknown> {
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(managed === undefined ? {} : { managed }),
  };
}

function answer(version: SecretVersion, body: unknown): Answer {
  return { body, version: version.version };
}
