import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { AppError } from '../errors.ts';
import { checkContacts, checkIssuerName, checkNewIssuer } from '../vault/certificate-rules.ts';
import type {
  CertificateContact,
  CertificateIssuer,
  CertificateService,
  NewCertificateIssuer,
} from '../vault/certificates.ts';
import { type Perform, pages } from './calls.ts';
import { encodeName } from './x500-name.ts';
import { buildCertificate } from './x509.ts';

// Who issues a simulated vault's certificates, and who is told of them.

export interface CertificateSettings {
  /** By name in upper case. */
  readonly issuers: Map<string, CertificateIssuer>;
  contacts: readonly CertificateContact[];
  /** Stands in for every certification authority outside; made when first needed. */
  authority: Authority | null;
}

export interface Authority {
  /** DER. */
  readonly name: Buffer;
  readonly key: KeyObject;
  /** DER. */
  readonly certificate: Buffer;
}

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;

/** They want to know for whom they issue. */
const providersWithOrganization = ['DIGICERT', 'GLOBALSIGN'];
/** From and until times that no clock of a test is set to. */
const always = {
  notBefore: new Date('2000-01-01T00:00:00Z'),
  expiresOn: new Date('9999-12-31T00:00:00Z'),
};

export function newSettings(): CertificateSettings {
  return { issuers: new Map(), contacts: [], authority: null };
}

export function simulatedIssuers(
  settings: CertificateSettings,
  perform: Perform,
): Part<'listIssuers' | 'getIssuer' | 'putIssuer' | 'deleteIssuer'> {
  const { issuers } = settings;
  return {
    listIssuers: () =>
      pages(
        () =>
          [...issuers]
            .sort(([left], [right]) => (left < right ? -1 : 1))
            .map(([, { name, provider }]) => ({ name, provider })),
        (work) => perform('listIssuers', '', work),
      ),
    getIssuer: async (name) => {
      checkIssuerName(name);
      return perform('getIssuer', name, () => getIssuer(settings, name));
    },
    putIssuer: async (name, issuer) => {
      checkIssuerName(name);
      checkNewIssuer(issuer);
      return perform('putIssuer', name, () => {
        const key = name.toUpperCase();
        const kept = issuerFrom(issuers.get(key)?.name ?? name, issuer);
        issuers.set(key, kept);
        return kept;
      });
    },
    deleteIssuer: async (name) => {
      checkIssuerName(name);
      await perform('deleteIssuer', name, () => {
        getIssuer(settings, name);
        issuers.delete(name.toUpperCase());
      });
    },
  };
}

export function simulatedContacts(
  settings: CertificateSettings,
  perform: Perform,
): Part<'getContacts' | 'setContacts'> {
  return {
    getContacts: async () => perform('getContacts', '', () => settings.contacts),
    setContacts: async (contacts) => {
      checkContacts(contacts);
      await perform('setContacts', '', () => {
        settings.contacts = contacts.map((contact) => ({ ...contact }));
      });
    },
  };
}

/** @throws AppError for an issuer that the vault cannot ask */
export function mustBeUsable(settings: CertificateSettings, name: string): void {
  if (name === 'Self' || name === 'Unknown') return;
  if (getIssuer(settings, name).enabled) return;
  throw new AppError('vault_denied', { detail: `issuer ${name} is disabled` });
}

export function authorityOf(settings: CertificateSettings): Authority {
  settings.authority ??= createAuthority();
  return settings.authority;
}

function createAuthority(): Authority {
  const name = encodeName('CN=Simulated certification authority') ?? Buffer.alloc(0);
  const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = {
    ...{ name, isCa: true, keyUsage: ['keyCertSign', 'cRLSign'], enhancedKeyUsage: [] },
    ...{ dnsNames: [], emails: [], userPrincipalNames: [], uris: [], ipAddresses: [] },
  };
  return { name, key, certificate: buildCertificate(subject, key, { name, key }, always) };
}

function getIssuer({ issuers }: CertificateSettings, name: string): CertificateIssuer {
  const issuer = issuers.get(name.toUpperCase());
  if (issuer === undefined) throw new AppError('not_found', { detail: `issuer ${name}` });
  return issuer;
}

/** The password is kept nowhere: nobody is asked for a certificate. */
function issuerFrom(name: string, issuer: NewCertificateIssuer): CertificateIssuer {
  const { provider, enabled = true, accountId, organizationId, administrators = [] } = issuer;
  const needsOrganization = providersWithOrganization.includes(provider.toUpperCase());
  if (needsOrganization && !organizationId) {
    throw new AppError('vault_rejected', {
      detail: `issuer ${name}: ${provider} wants an organizationId`,
    });
  }
  return {
    ...{ name, provider, enabled },
    accountId: accountId ?? null,
    organizationId: organizationId ?? null,
    administrators: administrators.map((each) => ({ ...each })),
  };
}
