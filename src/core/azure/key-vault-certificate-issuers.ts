/** Who issues a vault's certificates, and who is told of them. */
import type {
  CertificateClient,
  CertificateContact as SdkContact,
  CertificateIssuer as SdkIssuer,
} from '@azure/keyvault-certificates';
import { hasCode } from '../errors.ts';
import { checkContacts, checkIssuerName, checkNewIssuer } from '../vault/certificate-rules.ts';
import type {
  CertificateContact,
  CertificateIssuer,
  CertificateService,
  NewCertificateIssuer,
} from '../vault/certificates.ts';
import { type Connection, pages, type Request, send } from './key-vault-connection.ts';
import { isNotFound } from './key-vault-lifecycle.ts';

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;
type Options = { readonly abortSignal: AbortSignal };

export function issuersAndContacts(
  connection: Connection<CertificateClient>,
): Part<
  'listIssuers' | 'getIssuer' | 'putIssuer' | 'deleteIssuer' | 'getContacts' | 'setContacts'
> {
  return { ...issuers(connection), ...contacts(connection) };
}

function issuers(
  connection: Connection<CertificateClient>,
): Part<'listIssuers' | 'getIssuer' | 'putIssuer' | 'deleteIssuer'> {
  return {
    listIssuers: () =>
      pages(
        connection,
        { what: 'list issuers', operation: 'getCertificateIssuers' },
        (client: CertificateClient, options: Options) => client.listPropertiesOfIssuers(options),
        ({ id, provider }) => ({ name: nameIn(id), provider: provider ?? '' }),
      ),
    getIssuer: async (name) => {
      const request = about('get', 'getCertificateIssuer', name);
      return send(connection, request, async (client, { signal }) =>
        issuerOf(await client.getIssuer(name, { abortSignal: signal })),
      );
    },
    putIssuer: async (name, issuer) => {
      // It may carry a password, which a refusal might repeat.
      const request = { ...about('set', 'setCertificateIssuer', name), isQuotable: false };
      checkNewIssuer(issuer);
      return send(connection, request, async (client, { signal }) => {
        const options = { ...issuerToSdk(issuer), abortSignal: signal };
        return issuerOf(await client.createIssuer(name, issuer.provider, options));
      });
    },
    deleteIssuer: async (name) => {
      const request = about('delete', 'deleteCertificateIssuer', name);
      await send(connection, request, async (client, { signal }, attempt) => {
        try {
          await client.deleteIssuer(name, { abortSignal: signal });
        } catch (error) {
          if (attempt === 1 || !isNotFound(error)) throw error;
        }
      });
    },
  };
}

function contacts(connection: Connection<CertificateClient>): Part<'getContacts' | 'setContacts'> {
  return {
    getContacts: async () => {
      const request = repeatable('get contacts', 'getCertificateContacts');
      return unlessAbsent([], () =>
        send(connection, request, async (client, { signal }) =>
          contactsOf(await client.getContacts({ abortSignal: signal })),
        ),
      );
    },
    setContacts: async (wanted) => {
      checkContacts(wanted);
      if (wanted.length > 0) {
        const request = repeatable('set contacts', 'setCertificateContacts');
        await send(connection, request, (client, { signal }) =>
          client.setContacts(wanted.map(contactToSdk), { abortSignal: signal }),
        );
        return;
      }
      const request = repeatable('delete contacts', 'deleteCertificateContacts');
      await unlessAbsent(null, () =>
        send(connection, request, (client, { signal }) =>
          client.deleteContacts({ abortSignal: signal }),
        ),
      );
    },
  };
}

/** A vault without contacts has no such list at all. */
async function unlessAbsent<T>(absent: T, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (hasCode(error, 'not_found')) return absent;
    throw error;
  }
}

function repeatable(what: string, operation: string): Request {
  return { what, operation, repeatable: true };
}

function about(words: string, operation: string, name: string): Request {
  checkIssuerName(name);
  return { ...repeatable(`${words} issuer ${name}`, operation), object: name };
}

/** The SDK takes the wrong part of the id for the name. */
function nameIn(id: string | undefined): string {
  return id?.split('/').at(-1) ?? '';
}

function issuerToSdk({
  enabled,
  accountId,
  password,
  organizationId,
  ...rest
}: NewCertificateIssuer) {
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(accountId === undefined ? {} : { accountId }),
    ...(password ? { password: password.expose() } : {}),
    ...(organizationId === undefined ? {} : { organizationId }),
    ...(rest.administrators
      ? { administratorContacts: rest.administrators.map((each) => ({ ...each })) }
      : {}),
  };
}

function issuerOf(issuer: SdkIssuer): CertificateIssuer {
  return {
    name: nameIn(issuer.id),
    provider: issuer.provider ?? '',
    enabled: issuer.enabled ?? true,
    accountId: issuer.accountId ?? null,
    organizationId: issuer.organizationId ?? null,
    administrators: (issuer.administratorContacts ?? []).map(
      ({ email = '', firstName, lastName, phone }) => ({
        email,
        ...(firstName ? { firstName } : {}),
        ...(lastName ? { lastName } : {}),
        ...(phone ? { phone } : {}),
      }),
    ),
  };
}

function contactsOf(found: readonly SdkContact[] | undefined): CertificateContact[] {
  return (found ?? []).flatMap((contact) => {
    const { email, name, phone } = contact ?? {};
    if (email === undefined) return [];
    return [{ email, ...(name ? { name } : {}), ...(phone ? { phone } : {}) }];
  });
}

/** The SDK's type wants a name or a phone number beside the address; a vault does not. */
function contactToSdk(contact: CertificateContact): SdkContact {
  return { ...contact } as SdkContact;
}
