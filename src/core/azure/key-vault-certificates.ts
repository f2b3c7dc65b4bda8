/** CertificateService on a Key Vault, uncached. */
import type { TokenCredential } from '@azure/identity';
import type { CertificateClient } from '@azure/keyvault-certificates';
import type { VaultCaller } from '../vault/calls.ts';
import { changedPolicy, checkPolicy } from '../vault/certificate-policy.ts';
import {
  checkCertificateChanges,
  checkCertificateName,
  checkChain,
  readImport,
} from '../vault/certificate-rules.ts';
import type { CertificateService } from '../vault/certificates.ts';
import { type Limits, vaultLimits } from '../vault/pipeline.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { issuersAndContacts } from './key-vault-certificate-issuers.ts';
import { operations } from './key-vault-certificate-operations.ts';
import { about, creating } from './key-vault-certificate-requests.ts';
import {
  certificateOf,
  changesToSdk,
  deletedItemOf,
  deletedOf,
  policyOf,
  policyToSdk,
  propertiesOf,
} from './key-vault-certificate-shapes.ts';
import { type Connection, connect, pages, send } from './key-vault-connection.ts';
import { lifecycle } from './key-vault-lifecycle.ts';

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;
type Options = { readonly abortSignal: AbortSignal };

/** @param by what all that calls this vault has in common, or the limits of a caller of its own */
export function azureCertificates(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  by: VaultCaller | Limits = vaultLimits,
): CertificateService {
  const connection = connect(vault, credential, by, async (url, identity, options) => {
    const { CertificateClient } = await import('@azure/keyvault-certificates');
    return new CertificateClient(url, identity, options);
  });
  return {
    ...reading(connection),
    ...policies(connection),
    ...operations(connection),
    ...making(connection),
    ...lifecycle(connection, {
      type: 'Certificate',
      checkName: checkCertificateName,
      beginDelete: (client, name, options) => client.beginDeleteCertificate(name, options),
      getDeleted: (client, name, options) => client.getDeletedCertificate(name, options),
      listDeleted: (client: CertificateClient, options) => client.listDeletedCertificates(options),
      beginRecover: (client, name, options) => client.beginRecoverDeletedCertificate(name, options),
      purge: async (client, name, options) => {
        await client.purgeDeletedCertificate(name, options);
      },
      backup: (client, name, options) => client.backupCertificate(name, options),
      restore: (client, backup, options) => client.restoreCertificateBackup(backup, options),
      liveOf: certificateOf,
      deletedOf,
      deletedItemOf,
    }),
    ...issuersAndContacts(connection),
  };
}

function reading(
  connection: Connection<CertificateClient>,
): Part<'get' | 'list' | 'listVersions' | 'update'> {
  return {
    get: async (name, version) => {
      const request = about('get', 'getCertificate', name);
      if (version !== undefined) checkVersion(version);
      return send(connection, request, async (client, { signal }) => {
        const options = { abortSignal: signal };
        return version === undefined
          ? certificateOf(await client.getCertificate(name, options))
          : certificateOf(await client.getCertificateVersion(name, version, options));
      });
    },
    list: ({ includePending = false } = {}) =>
      pages(
        connection,
        { what: 'list certificates', operation: 'getCertificates' },
        (client: CertificateClient, options: Options) =>
          client.listPropertiesOfCertificates({ ...options, includePending }),
        propertiesOf,
      ),
    listVersions: (name) =>
      pages(
        connection,
        about('list versions of', 'getCertificateVersions', name),
        (client: CertificateClient, options: Options) =>
          client.listPropertiesOfCertificateVersions(name, options),
        propertiesOf,
      ),
    update: async (name, version, changes) => {
      const request = about('update', 'updateCertificate', name);
      checkVersion(version);
      checkCertificateChanges(changes);
      return send(connection, request, async (client, { signal }) => {
        const options = { ...changesToSdk(changes), abortSignal: signal };
        return certificateOf(await client.updateCertificateProperties(name, version, options));
      });
    },
  };
}

function policies(connection: Connection<CertificateClient>): Part<'getPolicy' | 'updatePolicy'> {
  const getPolicy: CertificateService['getPolicy'] = async (name) => {
    const request = about('get policy of', 'getCertificatePolicy', name);
    return send(connection, request, async (client, { signal }) =>
      policyOf(await client.getCertificatePolicy(name, { abortSignal: signal })),
    );
  };
  return {
    getPolicy,
    updatePolicy: async (name, changes) => {
      const request = about('update policy of', 'updateCertificatePolicy', name);
      // All of it is sent, since the SDK cannot leave the subject out.
      const policy = changedPolicy(await getPolicy(name), changes);
      checkPolicy(policy);
      await send(connection, request, (client, { signal }) =>
        client.updateCertificatePolicy(name, policyToSdk(policy), { abortSignal: signal }),
      );
      // The SDK answers with an empty policy.
      return getPolicy(name);
    },
  };
}

function making(connection: Connection<CertificateClient>): Part<'merge' | 'import'> {
  return {
    merge: async (name, chain) => {
      const request = creating('merge', 'mergeCertificate', name);
      checkChain(chain);
      return send(connection, request, async (client, { signal }) =>
        certificateOf(await client.mergeCertificate(name, [...chain], { abortSignal: signal })),
      );
    },
    import: async (name, certificate) => {
      const request = creating('import', 'importCertificate', name);
      const { isPem, text } = readImport(certificate);
      const { password, tags, enabled } = certificate;
      const imported = await send(connection, request, async (client, { signal }) => {
        const options = {
          ...(password ? { password: password.expose() } : {}),
          // It is never sent; the SDK encodes the content by it.
          ...(isPem ? { policy: { contentType: 'application/x-pem-file' as const } } : {}),
          ...changesToSdk(tags ? { tags } : {}),
          abortSignal: signal,
        };
        const bytes = Buffer.from(text, isPem ? 'utf8' : 'base64');
        return certificateOf(await client.importCertificate(name, bytes, options));
      });
      if (enabled !== false) return imported;
      // The SDK never sends `enabled` with an import.
      const { version } = imported.properties;
      const disabling = about('disable', 'updateCertificate', name);
      const { properties } = await send(connection, disabling, async (client, { signal }) => {
        const options = { enabled: false, abortSignal: signal };
        return certificateOf(await client.updateCertificateProperties(name, version, options));
      });
      return { ...imported, properties };
    },
  };
}
