import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { contentTypes, keyUsages } from './certificate-policy.ts';
import { curves, type KeyMaterial, keyObjectOf } from './key-material.ts';
import { KeyUse } from './keys.ts';
import { keyOf } from './store.ts';

// What a state must hold so that every operation can work with it. Members that no operation relies on are let through.

const Seconds = z.int().min(0);
const Text = z.string();
const VersionId = z.string().regex(/^[0-9a-f]{32}$/);
const Version = z.looseObject({
  version: VersionId,
  enabled: z.boolean(),
  nbf: Seconds.optional(),
  exp: Seconds.optional(),
  created: Seconds,
  updated: Seconds,
  tags: z.record(Text, Text).optional(),
  managed: z.literal(true).optional(),
  announced: z.array(Text).optional(),
});

const Material = z
  .discriminatedUnion('kty', [
    z.looseObject({
      kty: z.enum(['RSA', 'RSA-HSM']),
      ...{ n: Text, e: Text, d: Text, p: Text, q: Text, dp: Text, dq: Text, qi: Text },
    }),
    z.looseObject({
      kty: z.enum(['EC', 'EC-HSM']),
      crv: z.enum(curves),
      ...{ x: Text, y: Text, d: Text },
    }),
    z.looseObject({ kty: z.literal('oct-HSM'), k: z.string().min(1) }),
  ])
  .refine(isUsable, { message: 'The members do not make a key' });

const SecretVersion = Version.extend({
  value: Text,
  contentType: Text.optional(),
  previousVersion: VersionId.optional(),
});

const KeyVersion = Version.extend({
  material: Material,
  keyOps: z.array(KeyUse),
  exportable: z.literal(true).optional(),
  releasePolicy: z
    .looseObject({ contentType: Text, data: Text, immutable: z.boolean() })
    .optional(),
});
const RotationPolicy = z.looseObject({
  lifetimeActions: z.array(
    z.looseObject({
      trigger: z.union([
        z.looseObject({ timeAfterCreate: Text }),
        z.looseObject({ timeBeforeExpiry: Text }),
      ]),
      action: z.looseObject({ type: z.enum(['Rotate', 'Notify']) }),
    }),
  ),
  expiryTime: Text.optional(),
  created: Seconds,
  updated: Seconds,
});

const CertificateVersion = Version.extend({
  cer: Text.refine(isCertificate, { message: 'This is no certificate' }).optional(),
  preserveCertOrder: z.boolean().optional(),
  renewalBegun: z.literal(true).optional(),
});
const IssuerOfPolicy = z.looseObject({ name: Text });
const CertificatePolicy = z.looseObject({
  key_props: z.looseObject({
    exportable: z.boolean(),
    kty: z.enum(['RSA', 'RSA-HSM', 'EC', 'EC-HSM']),
    key_size: z.int(),
    reuse_key: z.boolean(),
    crv: z.enum(curves).optional(),
  }),
  secret_props: z.looseObject({ contentType: z.enum(contentTypes) }),
  x509_props: z.looseObject({
    subject: Text,
    sans: z.looseObject({}).optional(),
    ekus: z.array(Text),
    key_usage: z.array(z.enum(keyUsages)),
    validity_months: z.int().min(1),
    basic_constraints: z.looseObject({ ca: z.boolean() }),
  }),
  lifetime_actions: z.array(
    z.looseObject({
      trigger: z.looseObject({
        lifetime_percentage: z.int().optional(),
        days_before_expiry: z.int().optional(),
      }),
      action: z.looseObject({ action_type: z.enum(['EmailContacts', 'AutoRenew']) }),
    }),
  ),
  issuer: IssuerOfPolicy,
  attributes: z.looseObject({ enabled: z.boolean(), created: Seconds, updated: Seconds }),
});
const CertificateOperation = z.looseObject({
  requestId: VersionId,
  issuer: IssuerOfPolicy,
  csr: Text,
  material: Material,
  draft: CertificateVersion,
  enabled: z.boolean(),
  startedAt: Seconds,
  cancellationRequested: z.boolean(),
  status: z.enum(['inProgress', 'completed', 'cancelled', 'failed']),
  error: z.looseObject({ code: Text, message: Text }).optional(),
});

const CertificateSettings = z.looseObject({
  issuers: z.array(
    z.looseObject({
      name: Text,
      provider: Text,
      enabled: z.boolean(),
      created: Seconds,
      updated: Seconds,
    }),
  ),
  contacts: z.array(z.looseObject({ email: Text })),
  authority: z.looseObject({ material: Material, chain: z.array(Text).length(2) }).nullable(),
});

export const StateDocument = z.strictObject({
  format: z.literal(2),
  vaults: z.record(
    Text,
    z.strictObject({
      secrets: storeSchema(SecretVersion),
      keys: storeSchema(KeyVersion, { rotationPolicy: RotationPolicy.optional() }),
      certificates: storeSchema(CertificateVersion, {
        policy: CertificatePolicy,
        pending: CertificateOperation.optional(),
      }),
      certificateSettings: CertificateSettings.optional(),
    }),
  ),
});

function storeSchema(version: typeof Version, ofType: z.ZodRawShape = {}) {
  const object = z.looseObject({
    name: z.string().regex(/^[0-9a-zA-Z-]{1,127}$/),
    versions: listOf(version, 'version').min(1),
    ...ofType,
  });
  const deleted = object.extend({ deletedDate: Seconds, scheduledPurgeDate: Seconds });
  return z.strictObject({ live: listOf(object, 'name'), deleted: listOf(deleted, 'name') });
}

/** No two have the same id; names differ in more than their case. */
function listOf<I extends string, T extends z.ZodType<Readonly<Record<I, string>>>>(
  item: T,
  idMember: I,
) {
  return z.array(item).superRefine((items, context) => {
    const seen = new Set<string>();
    for (const [index, { [idMember]: id }] of items.entries()) {
      if (seen.has(keyOf(id))) {
        const message = `There are two of ${idMember} ${id}`;
        context.addIssue({ code: 'custom', message, path: [index, idMember] });
      }
      seen.add(keyOf(id));
    }
  });
}

function isUsable(material: KeyMaterial): boolean {
  try {
    keyObjectOf(material);
    return true;
  } catch {
    return false;
  }
}

function isCertificate(base64: string): boolean {
  try {
    return new X509Certificate(Buffer.from(base64, 'base64')).raw.length > 0;
  } catch {
    return false;
  }
}
