import { isIP } from 'node:net';
import { z } from 'zod';
import { AttributesInput } from './bundles.ts';
import { certificateErrors } from './certificate-errors.ts';
import { errors } from './errors.ts';
import { type Curve, curves, type KeySpec, rsaSizes } from './key-material.ts';
import type { KeyUse } from './keys.ts';
import { isOid, parseX500Name } from './x500-name.ts';

// What a certificate is made from, in the words of the wire.

const keyTypes = ['RSA', 'RSA-HSM', 'EC', 'EC-HSM'] as const;
export const contentTypes = ['application/x-pkcs12', 'application/x-pem-file'] as const;
export type ContentType = (typeof contentTypes)[number];

/** In the order of their bits in the extension. */
export const keyUsages = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;
export type KeyUsage = (typeof keyUsages)[number];

const serverAndClient = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'];
const maxSubjectLength = 200;
const maxValidityMonths = 1200;

const Text = z.string().min(1).max(1024);
const AsciiText = Text.regex(/^[\x21-\x7e]+$/);
const Sans = z.object({
  emails: z.array(AsciiText).max(100).nullish(),
  dns_names: z.array(AsciiText).max(100).nullish(),
  upns: z.array(Text).max(100).nullish(),
  uris: z.array(AsciiText).max(100).nullish(),
  ipAddresses: z
    .array(z.string().refine((address) => isIP(address) !== 0 && !address.includes('%')))
    .max(100)
    .nullish(),
});
const LifetimeAction = z.object({
  trigger: z
    .object({
      lifetime_percentage: z.int().min(1).max(99).nullish(),
      days_before_expiry: z.int().min(1).nullish(),
    })
    .refine(
      (trigger) => (trigger.lifetime_percentage ?? null) === null || !trigger.days_before_expiry,
    )
    .refine((trigger) => trigger.lifetime_percentage || trigger.days_before_expiry),
  action: z.object({ action_type: z.enum(['EmailContacts', 'AutoRenew']) }),
});

/** Names of types and usages are taken in any case, as enumerations of the service are. */
function anyCase<const T extends readonly [string, ...string[]]>(values: T) {
  return z
    .string()
    .transform((text) => values.find((value) => value.toLowerCase() === text.toLowerCase()) ?? text)
    .pipe(z.enum(values));
}

export const PolicyInput = z.object({
  key_props: z
    .object({
      exportable: z.boolean().nullish(),
      kty: anyCase(keyTypes).nullish(),
      key_size: z.int().nullish(),
      reuse_key: z.boolean().nullish(),
      crv: anyCase(curves).nullish(),
    })
    .nullish(),
  secret_props: z.object({ contentType: anyCase(contentTypes).nullish() }).nullish(),
  x509_props: z
    .object({
      subject: z.string().nullish(),
      sans: Sans.nullish(),
      ekus: z.array(z.string().refine(isOid)).max(100).nullish(),
      key_usage: z.array(anyCase(keyUsages)).max(100).nullish(),
      validity_months: z.int().min(0).max(maxValidityMonths).nullish(),
      basic_constraints: z.object({ ca: z.boolean().nullish() }).nullish(),
    })
    .nullish(),
  lifetime_actions: z.array(LifetimeAction).max(10).nullish(),
  issuer: z
    .object({
      name: z.string().max(127).nullish(),
      cty: z.string().max(128).nullish(),
      cert_transparency: z.boolean().nullish(),
    })
    .nullish(),
  attributes: AttributesInput,
});
export type PolicyInput = z.output<typeof PolicyInput>;

export type SubjectAlternativeNames = {
  readonly [member in keyof z.output<typeof Sans>]?: readonly string[];
};
export type LifetimeAction = {
  readonly trigger: { readonly lifetime_percentage?: number; readonly days_before_expiry?: number };
  readonly action: { readonly action_type: 'EmailContacts' | 'AutoRenew' };
};

export type CertificatePolicy = {
  readonly key_props: {
    readonly exportable: boolean;
    readonly kty: (typeof keyTypes)[number];
    readonly key_size: number;
    readonly reuse_key: boolean;
    readonly crv?: Curve;
  };
  readonly secret_props: { readonly contentType: ContentType };
  readonly x509_props: {
    readonly subject: string;
    readonly sans?: SubjectAlternativeNames;
    readonly ekus: readonly string[];
    readonly key_usage: readonly KeyUsage[];
    readonly validity_months: number;
    readonly basic_constraints: { readonly ca: boolean };
  };
  readonly lifetime_actions: readonly LifetimeAction[];
  readonly issuer: {
    readonly name: string;
    readonly cty?: string;
    readonly cert_transparency?: boolean;
  };
  readonly attributes: {
    readonly enabled: boolean;
    readonly created: number;
    readonly updated: number;
  };
};

/** Issued by the vault itself, by somebody outside (CSR and merge), or by an issuer of the vault that is so named. */
export const selfIssuer = 'Self';
export const unknownIssuer = 'Unknown';

/**
 * The policy that the input makes, on top of an earlier one or of the service's defaults.
 *
 * @throws VaultError 400 for what no certificate can be made from
 */
export function policyFrom(
  input: PolicyInput,
  now: number,
  base: CertificatePolicy | null = null,
): CertificatePolicy {
  const issuer = { ...base?.issuer, ...present(input.issuer ?? {}) };
  const keyProps = keyPropsFrom(input.key_props ?? {}, base?.key_props);
  const given = { ...base?.x509_props, ...present(input.x509_props ?? {}) };
  const x509Props: CertificatePolicy['x509_props'] = {
    subject: given.subject ?? '',
    ...(given.sans ? { sans: { ...base?.x509_props.sans, ...present(given.sans) } } : {}),
    ekus: given.ekus ?? serverAndClient,
    key_usage: given.key_usage ?? defaultKeyUsage(keyProps.kty),
    validity_months: given.validity_months || 12,
    basic_constraints: { ca: given.basic_constraints?.ca ?? false },
  };
  const name = canonicalIssuer(issuer.name ?? unknownIssuer);
  const policy: CertificatePolicy = {
    key_props: keyProps,
    secret_props: {
      contentType:
        input.secret_props?.contentType ?? base?.secret_props.contentType ?? 'application/x-pkcs12',
    },
    x509_props: x509Props,
    lifetime_actions:
      input.lifetime_actions?.map(lifetimeActionFrom) ??
      base?.lifetime_actions ??
      defaultLifetimeActions(name),
    issuer: { ...issuer, name },
    attributes: {
      enabled: input.attributes?.enabled ?? base?.attributes.enabled ?? true,
      created: base?.attributes.created ?? now,
      updated: now,
    },
  };
  check(policy);
  // One that was read from a certificate is not ours to judge.
  if (x509Props.subject !== base?.x509_props.subject) checkSubject(x509Props.subject);
  return policy;
}

/** What the service does about the end of a certificate when it is not told. */
function defaultLifetimeActions(issuer: string): readonly LifetimeAction[] {
  const type = issuer === unknownIssuer ? 'EmailContacts' : 'AutoRenew';
  return [{ trigger: { lifetime_percentage: 80 }, action: { action_type: type } }];
}

/** What an answer shows. */
export function describePolicy(id: string, policy: CertificatePolicy): Record<string, unknown> {
  return { id, ...policy };
}

export function keySpecOf({ key_props: { kty, key_size, crv } }: CertificatePolicy): KeySpec {
  return kty === 'RSA' || kty === 'RSA-HSM'
    ? { kty, size: key_size }
    : { kty, crv: crv ?? 'P-256' };
}

/** What the key of the certificate may be used for: its usages, translated; without any, all that its type can do. */
export function keyOpsOf({ x509_props, key_props }: CertificatePolicy): readonly KeyUse[] {
  const able = keyOpsOfType(key_props.kty);
  if (x509_props.key_usage.length === 0) return able;
  const wanted = new Set(x509_props.key_usage.flatMap((usage) => keyOpsByUsage[usage]));
  return able.filter((use) => wanted.has(use));
}

/** When a certificate is to be renewed by itself, in seconds since 1970; `null`: never. */
export function renewalTime(
  { lifetime_actions, issuer, attributes }: CertificatePolicy,
  { nbf, exp }: { readonly nbf: number; readonly exp: number },
): number | null {
  if (issuer.name === unknownIssuer || !attributes.enabled) return null;
  const times = lifetime_actions
    .filter(({ action }) => action.action_type === 'AutoRenew')
    .map(({ trigger: { lifetime_percentage: percentage, days_before_expiry: days } }) =>
      percentage === undefined
        ? exp - (days ?? 0) * 86_400
        : nbf + Math.floor(((exp - nbf) * percentage) / 100),
    );
  return times.length === 0 ? null : Math.min(...times);
}

const keyOpsByUsage: Readonly<Record<KeyUsage, readonly KeyUse[]>> = {
  digitalSignature: ['sign', 'verify'],
  nonRepudiation: ['sign', 'verify'],
  keyEncipherment: ['wrapKey', 'unwrapKey'],
  dataEncipherment: ['encrypt', 'decrypt'],
  keyAgreement: [],
  keyCertSign: ['sign', 'verify'],
  cRLSign: ['sign', 'verify'],
  encipherOnly: ['encrypt'],
  decipherOnly: ['decrypt'],
};

function keyOpsOfType(kty: CertificatePolicy['key_props']['kty']): readonly KeyUse[] {
  return kty.startsWith('EC')
    ? ['sign', 'verify']
    : ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
}

function defaultKeyUsage(kty: CertificatePolicy['key_props']['kty']): readonly KeyUsage[] {
  // An elliptic curve cannot wrap keys, and asking for it would be refused.
  return kty.startsWith('EC') ? ['digitalSignature'] : ['digitalSignature', 'keyEncipherment'];
}

export const curveSizes: Readonly<Record<Curve, number>> = {
  'P-256': 256,
  'P-256K': 256,
  'P-384': 384,
  'P-521': 521,
};

function keyPropsFrom(
  input: NonNullable<PolicyInput['key_props']>,
  base: CertificatePolicy['key_props'] | undefined,
): CertificatePolicy['key_props'] {
  const kty = input.kty ?? base?.kty ?? 'RSA';
  const isSameType = base?.kty.slice(0, 2) === kty.slice(0, 2);
  const earlier = isSameType ? base : undefined;
  const common = {
    exportable: input.exportable ?? earlier?.exportable ?? !kty.endsWith('-HSM'),
    kty,
    reuse_key: input.reuse_key ?? base?.reuse_key ?? false,
  };
  if (!kty.startsWith('EC')) {
    return { ...common, key_size: input.key_size ?? earlier?.key_size ?? 2048 };
  }
  const bySize = curves.find((curve) => curveSizes[curve] === input.key_size);
  const crv = input.crv ?? bySize ?? earlier?.crv ?? 'P-256';
  return { ...common, key_size: input.key_size ?? curveSizes[crv], crv };
}

function lifetimeActionFrom({ trigger, action }: z.output<typeof LifetimeAction>): LifetimeAction {
  return { trigger: present(trigger), action };
}

/** @throws VaultError 400 */
function check({ key_props, x509_props, lifetime_actions }: CertificatePolicy): void {
  const { kty, key_size, crv, exportable } = key_props;
  const sizes = kty.startsWith('EC') ? [256, 384, 521] : rsaSizes;
  if (!sizes.some((size) => size === key_size)) throw errors.unsupportedKeySize(key_size, sizes);
  if (crv !== undefined && curveSizes[crv] !== key_size) throw errors.badProperty('policy');
  if (exportable && kty.endsWith('-HSM')) throw certificateErrors.hsmKeyNotExportable();
  const able = keyOpsOfType(kty);
  const unable = x509_props.key_usage
    .flatMap((usage) => keyOpsByUsage[usage])
    .filter((use) => !able.includes(use));
  if (unable.length > 0)
    throw certificateErrors.unsupportedKeyOperations([...new Set(unable)], able);
  const mostDays = x509_props.validity_months * 27;
  const isTooEarly = lifetime_actions.some(
    ({ trigger }) => (trigger.days_before_expiry ?? 0) > mostDays,
  );
  if (isTooEarly) throw errors.badProperty('policy');
}

function checkSubject(subject: string): void {
  if (subject.length > maxSubjectLength) throw certificateErrors.subjectTooLong(maxSubjectLength);
  if (parseX500Name(subject) === null) throw certificateErrors.invalidSubject();
}

function canonicalIssuer(name: string): string {
  return (
    [selfIssuer, unknownIssuer].find((known) => known.toLowerCase() === name.toLowerCase()) ?? name
  );
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], null | undefined> };

/** Without the members that are `null` or absent. */
function present<T extends object>(value: T): Present<T> {
  return Object.fromEntries(
    Object.entries(value).filter(([, member]) => member !== null && member !== undefined),
  ) as Present<T>;
}
