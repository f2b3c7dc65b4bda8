import { z } from 'zod';
import { parseBody } from './bundles.ts';
import { certificateErrors } from './certificate-errors.ts';
import { selfIssuer, unknownIssuer } from './certificate-policy.ts';
import { type Answer, type Call, nameOf, type Operation } from './operation.ts';
import { listingOf, pageOf } from './paging.ts';
import { keyOf } from './store.ts';
import type { Vault } from './vault.ts';

/** An account at a certification authority, as a vault keeps it. The password is never shown again. */
export type Issuer = {
  /** As first written; looked up without regard to case. */
  readonly name: string;
  provider: string;
  accountId?: string;
  password?: string;
  organizationId?: string;
  administrators?: readonly Administrator[];
  enabled: boolean;
  /** Seconds since 1970. */
  readonly created: number;
  updated: number;
};
type Administrator = Readonly<
  Partial<Record<'first_name' | 'last_name' | 'email' | 'phone', string>>
>;

const Text = z.string().max(1024).nullish();
const Details = z.object({
  credentials: z.object({ account_id: Text, pwd: Text }).nullish(),
  org_details: z
    .object({
      id: Text,
      admin_details: z
        .array(z.object({ first_name: Text, last_name: Text, email: Text, phone: Text }))
        .max(100)
        .nullish(),
    })
    .nullish(),
  attributes: z.object({ enabled: z.boolean().nullish() }).nullish(),
});
const SetBody = Details.extend({ provider: z.string().min(1).max(128) });
const UpdateBody = Details.extend({ provider: z.string().min(1).max(128).nullish() });

// Providers that the service orders certificates from want to know for whom.
const providersWithOrganization = ['digicert', 'globalsign'];
const one = '/certificates/issuers/{name}';

export const issuerOperations: readonly Operation[] = [
  {
    id: 'getCertificateIssuers',
    serviceName: 'CertificateIssuersList',
    method: 'GET',
    template: '/certificates/issuers',
    action: 'certificatecas/read',
    effect: 'read',
    run: listIssuers,
  },
  {
    id: 'setCertificateIssuer',
    serviceName: 'CertificateIssuerSet',
    method: 'PUT',
    template: one,
    action: 'certificatecas/write',
    effect: 'write',
    run: setIssuer,
  },
  {
    id: 'getCertificateIssuer',
    serviceName: 'CertificateIssuerGet',
    method: 'GET',
    template: one,
    action: 'certificatecas/read',
    effect: 'read',
    run: (call) => ({ body: describeIssuer(call.vault, issuerOf(call)) }),
  },
  {
    id: 'updateCertificateIssuer',
    serviceName: 'CertificateIssuerUpdate',
    method: 'PATCH',
    template: one,
    action: 'certificatecas/write',
    effect: 'write',
    run: updateIssuer,
  },
  {
    id: 'deleteCertificateIssuer',
    serviceName: 'CertificateIssuerDelete',
    method: 'DELETE',
    template: one,
    action: 'certificatecas/delete',
    effect: 'write',
    run: deleteIssuer,
  },
];

export function findIssuer(vault: Vault, name: string): Issuer | null {
  const key = keyOf(name);
  return vault.certificateSettings.issuers.find((issuer) => keyOf(issuer.name) === key) ?? null;
}

/** @throws VaultError for an issuer that the vault cannot ask */
export function mustBeUsable(vault: Vault, name: string): void {
  if (name === selfIssuer || name === unknownIssuer) return;
  const issuer = findIssuer(vault, name);
  if (issuer === null) throw certificateErrors.issuerNotFound();
  if (!issuer.enabled) throw certificateErrors.issuerDisabled(issuer.name);
}

function listIssuers(call: Call): Answer {
  const { vault } = call;
  const items = vault.certificateSettings.issuers
    .map((issuer) => ({
      item: { id: idOf(vault, issuer), provider: issuer.provider },
      marker: `issuer/${keyOf(issuer.name)}`,
    }))
    .sort((a, b) => (a.marker < b.marker ? -1 : 1));
  return { body: pageOf(call, 'certificates/issuers', listingOf(items)) };
}

function setIssuer(call: Call): Answer {
  const { vault, now } = call;
  const name = nameOf(call);
  const input = parseBody(SetBody, call.body);
  const earlier = findIssuer(vault, name);
  const issuer: Issuer = {
    name: earlier?.name ?? name,
    provider: input.provider,
    enabled: true,
    ...detailsFrom(input),
    created: earlier?.created ?? now,
    updated: now,
  };
  check(issuer);
  const { issuers } = vault.certificateSettings;
  if (earlier === null) issuers.push(issuer);
  else issuers[issuers.indexOf(earlier)] = issuer;
  call.changed();
  return { body: describeIssuer(vault, issuer) };
}

function updateIssuer(call: Call): Answer {
  const issuer = issuerOf(call);
  const input = parseBody(UpdateBody, call.body ?? {});
  const changes = {
    ...(input.provider ? { provider: input.provider } : {}),
    ...detailsFrom(input),
    updated: call.now,
  };
  check({ ...issuer, ...changes });
  Object.assign(issuer, changes);
  call.changed();
  return { body: describeIssuer(call.vault, issuer) };
}

function deleteIssuer(call: Call): Answer {
  const issuer = issuerOf(call);
  const { issuers } = call.vault.certificateSettings;
  issuers.splice(issuers.indexOf(issuer), 1);
  call.changed();
  return { body: describeIssuer(call.vault, issuer) };
}

function issuerOf(call: Call): Issuer {
  const issuer = findIssuer(call.vault, nameOf(call));
  if (issuer === null) throw certificateErrors.issuerNotFound();
  return issuer;
}

function check({ provider, organizationId }: Issuer): void {
  const needsOrganization = providersWithOrganization.includes(provider.toLowerCase());
  if (needsOrganization && !organizationId) throw certificateErrors.organizationNotSet();
}

function detailsFrom({ credentials, org_details, attributes }: z.output<typeof Details>) {
  return {
    ...(credentials?.account_id ? { accountId: credentials.account_id } : {}),
    ...(credentials?.pwd ? { password: credentials.pwd } : {}),
    ...(org_details?.id ? { organizationId: org_details.id } : {}),
    ...(org_details?.admin_details
      ? { administrators: org_details.admin_details.map(administratorFrom) }
      : {}),
    ...(typeof attributes?.enabled === 'boolean' ? { enabled: attributes.enabled } : {}),
  };
}

function administratorFrom(details: Readonly<Record<string, string | null | undefined>>) {
  return Object.fromEntries(
    Object.entries(details).filter(([, text]) => typeof text === 'string'),
  ) as Administrator;
}

function describeIssuer(vault: Vault, issuer: Issuer): Record<string, unknown> {
  const { provider, accountId, organizationId, administrators, enabled, created, updated } = issuer;
  return {
    id: idOf(vault, issuer),
    provider,
    credentials: { ...(accountId === undefined ? {} : { account_id: accountId }) },
    org_details: {
      ...(organizationId === undefined ? {} : { id: organizationId }),
      zip: 0,
      ...(administrators === undefined ? {} : { admin_details: administrators }),
    },
    attributes: { enabled, created, updated },
  };
}

function idOf({ publicUrl }: Vault, { name }: Issuer): string {
  return `${publicUrl}/certificates/issuers/${name}`;
}
