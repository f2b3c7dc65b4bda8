import { z } from 'zod';
import { AttributesInput, parseBody, TagsInput } from './bundles.ts';
import {
  type Certificate,
  type CertificateVersion,
  certificateKind,
  describeVersion,
} from './certificate.ts';
import { contactOperations } from './certificate-contacts.ts';
import { type Contents, readContents } from './certificate-contents.ts';
import { certificateErrors } from './certificate-errors.ts';
import { issuerOperations, mustBeUsable } from './certificate-issuers.ts';
import { addIssuedVersion } from './certificate-issuing.ts';
import { mustBeCreatable, mustNotBeExpired, pendingOperations } from './certificate-pending.ts';
import {
  type CertificatePolicy,
  type ContentType,
  curveSizes,
  describePolicy,
  PolicyInput,
  policyFrom,
} from './certificate-policy.ts';
import { errors } from './errors.ts';
import { curves, type EcMaterial, materialOf, type RsaMaterial } from './key-material.ts';
import { idOf, targetOf } from './kind.ts';
import { lifecycleOperations } from './lifecycle.ts';
import { type Answer, type Call, nameOf, type Operation, versionOf } from './operation.ts';
import { findVersion, newVersionId, type Stored } from './store.ts';
import { readCertificate, x509PropsOf } from './x509-facts.ts';

const maxPasswordLength = 200;
const ImportBody = z.object({
  value: z.string().min(1),
  pwd: z.string().max(maxPasswordLength).nullish(),
  policy: PolicyInput.nullish(),
  attributes: AttributesInput,
  tags: TagsInput,
  preserveCertOrder: z.boolean().nullish(),
});
const UpdateBody = z.object({
  policy: PolicyInput.nullish(),
  attributes: AttributesInput,
  tags: TagsInput,
});

const one = '/certificates/{name}/{version}';
const policyOf = '/certificates/{name}/policy';

/** Those of issuers and contacts come first: their words could be taken for names. */
export const certificateOperations: readonly Operation[] = [
  ...issuerOperations,
  ...contactOperations,
  ...pendingOperations,
  {
    id: 'importCertificate',
    serviceName: 'CertificateImport',
    method: 'POST',
    template: '/certificates/{name}/import',
    action: 'certificates/import/action',
    effect: 'write',
    run: importCertificate,
  },
  {
    id: 'getCertificate',
    serviceName: 'CertificateGet',
    method: 'GET',
    template: one,
    action: 'certificates/read',
    effect: 'read',
    run: getCertificate,
  },
  {
    id: 'updateCertificate',
    serviceName: 'CertificateUpdate',
    method: 'PATCH',
    template: one,
    action: 'certificates/update/action',
    effect: 'write',
    run: updateCertificate,
  },
  {
    id: 'getCertificatePolicy',
    serviceName: 'CertificatePolicyGet',
    method: 'GET',
    template: policyOf,
    action: 'certificates/read',
    effect: 'read',
    run: getPolicy,
  },
  {
    id: 'updateCertificatePolicy',
    serviceName: 'CertificatePolicyUpdate',
    method: 'PATCH',
    template: policyOf,
    action: 'certificates/update/action',
    effect: 'write',
    run: updatePolicy,
  },
  ...lifecycleOperations(certificateKind),
];

async function importCertificate(call: Call): Promise<Answer> {
  const { vault, now } = call;
  const name = nameOf(call);
  const input = parseBody(ImportBody, call.body);
  mustBeCreatable(call, name);
  const wanted = input.policy?.secret_props?.contentType ?? null;
  const { contents, type } = await readContents(input.value, input.pwd ?? '', wanted);
  mustNotBeExpired(contents.leaf, now);
  const material = importedMaterial(contents);
  const policy = importedPolicy(contents, { material, type, input: input.policy ?? {}, now });
  mustBeUsable(vault, policy.issuer.name);
  // While it was read another request may have been quicker.
  const certificate = mustBeCreatable(call, name) ?? { name, versions: [], policy };
  certificate.policy = policy;
  delete certificate.pending;
  const version = addIssuedVersion(vault, vault.certificates.put(certificate), {
    version: {
      version: newVersionId(),
      enabled: input.attributes?.enabled ?? true,
      created: now,
      updated: now,
      ...(input.tags ? { tags: input.tags } : {}),
      ...(typeof input.preserveCertOrder === 'boolean'
        ? { preserveCertOrder: input.preserveCertOrder }
        : {}),
    },
    contents,
    material,
  });
  call.changed({ type: 'Certificate', object: certificate, event: 'new-version' });
  return answer(version, certificateKind.bundle(vault, certificate, version));
}

function getCertificate(call: Call): Answer {
  const { object, version } = findTarget(call);
  return answer(version, shown(call, object, version));
}

function updateCertificate(call: Call): Answer {
  const { vault, now } = call;
  const { object, version } = findTarget(call);
  const input = parseBody(UpdateBody, call.body ?? {});
  if (input.policy) {
    if (versionOf(call) !== '') throw certificateErrors.policyOfVersion();
    object.policy = policyFrom(input.policy, now, object.policy);
  }
  const tags = input.tags ? { tags: input.tags } : {};
  const { enabled } = input.attributes ?? {};
  const changes = { ...tags, ...(typeof enabled === 'boolean' ? { enabled } : {}), updated: now };
  if (version.cer === undefined) updateDraft(object, version, changes);
  else {
    // The key and the secret follow.
    const linked: (Stored | null)[] = [
      vault.keys.find(object.name),
      vault.secrets.find(object.name),
    ];
    const parts = linked.map((part) => part && findVersion(part, version.version));
    for (const part of [version, ...parts]) Object.assign(part ?? {}, changes);
  }
  call.changed({ type: 'Certificate', object });
  return answer(version, shown(call, object, version));
}

/** It stays disabled until it is issued; what the request says of that counts from then on. */
function updateDraft(
  certificate: Certificate,
  draft: CertificateVersion,
  { enabled, ...changes }: { readonly enabled?: boolean; readonly updated: number },
): void {
  Object.assign(draft, changes);
  if (enabled !== undefined && certificate.pending?.draft === draft) {
    Object.assign(certificate.pending, { enabled });
  }
}

function getPolicy(call: Call): Answer {
  const { object } = targetOf(certificateKind, call);
  return { body: policyBody(call, object) };
}

function updatePolicy(call: Call): Answer {
  const { object } = targetOf(certificateKind, call);
  const input = parseBody(PolicyInput, call.body ?? {});
  const policy = policyFrom(input, call.now, object.policy);
  mustBeUsable(call.vault, policy.issuer.name);
  object.policy = policy;
  call.changed({ type: 'Certificate', object });
  return { body: policyBody(call, object) };
}

/** As `targetOf`, but a version that is still being made is found too. */
function findTarget(call: Call): { object: Certificate; version: CertificateVersion } {
  const certificate = call.vault.certificates.find(nameOf(call));
  const draft = certificate?.pending?.draft;
  const isDraft = draft?.version === versionOf(call).toLowerCase();
  if (certificate && draft && isDraft && certificate.pending?.status !== 'completed') {
    return { object: certificate, version: draft };
  }
  return targetOf(certificateKind, call);
}

/** The policy is the certificate's, not a version's. */
function shown(
  call: Call,
  certificate: Certificate,
  version: CertificateVersion,
): Record<string, unknown> {
  return versionOf(call) === ''
    ? certificateKind.bundle(call.vault, certificate, version)
    : describeVersion(call.vault, certificate, version);
}

function policyBody({ vault }: Call, { name, policy }: Certificate): Record<string, unknown> {
  return describePolicy(`${idOf(vault, certificateKind, name)}/policy`, policy);
}

/** @throws VaultError 400 for a key that the service does not keep */
function importedMaterial({ privateKey }: Contents): RsaMaterial | EcMaterial {
  if (privateKey?.asymmetricKeyType === 'rsa') return materialOf(privateKey, 'RSA');
  if (privateKey?.asymmetricKeyType !== 'ec') throw certificateErrors.unsupportedKeyType();
  const curve = privateKey.asymmetricKeyDetails?.namedCurve ?? '';
  if (!['prime256v1', 'secp384r1', 'secp521r1', 'secp256k1'].includes(curve)) {
    throw certificateErrors.unsupportedKeyType();
  }
  return materialOf(privateKey, 'EC');
}

type Import = {
  readonly material: RsaMaterial | EcMaterial;
  readonly type: ContentType;
  readonly input: PolicyInput;
  readonly now: number;
};

/** What the certificate says, and what the request wants beyond: nothing of it may contradict the certificate. */
function importedPolicy(
  { leaf, privateKey }: Contents,
  { material, type, input, now }: Import,
): CertificatePolicy {
  const x509Props = factsOf(leaf);
  const isRsa = material.kty.startsWith('RSA');
  const crv = 'crv' in material ? curves.find((curve) => curve === material.crv) : undefined;
  const key_size =
    crv === undefined ? privateKey?.asymmetricKeyDetails?.modulusLength : curveSizes[crv];
  const wanted = input.key_props ?? {};
  const contradicts =
    (wanted.kty ?? material.kty).slice(0, 2) !== material.kty.slice(0, 2) ||
    (wanted.key_size ?? key_size) !== key_size ||
    (wanted.crv ?? crv) !== crv;
  if (contradicts) throw errors.badProperty('policy');
  const keyProps = { ...wanted, kty: wanted.kty ?? (isRsa ? 'RSA' : 'EC'), key_size, crv } as const;
  const policy = policyFrom(
    {
      ...input,
      key_props: keyProps,
      secret_props: { contentType: type },
      x509_props: {
        ...x509Props,
        subject: undefined,
        sans: undefined,
        ekus: [...x509Props.ekus],
        key_usage: [...x509Props.key_usage],
      },
    },
    now,
  );
  return { ...policy, x509_props: x509Props };
}

function factsOf(leaf: Buffer): CertificatePolicy['x509_props'] {
  const certificate = readCertificate(leaf);
  try {
    if (certificate !== null) return x509PropsOf(certificate);
  } catch {
    // An extension that makes no sense.
  }
  throw certificateErrors.invalidX509Content();
}

function answer({ version }: CertificateVersion, body: unknown): Answer {
  return { body, version };
}
