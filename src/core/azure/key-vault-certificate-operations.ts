/** A certificate on its way: begun, looked at, cancelled, forgotten. */
import type {
  CertificateClient,
  CertificatePolicy as SdkPolicy,
} from '@azure/keyvault-certificates';
import { AppError } from '../errors.ts';
import { checkNewPolicy } from '../vault/certificate-policy.ts';
import { checkCertificateChanges } from '../vault/certificate-rules.ts';
import type {
  CertificateOperation,
  CertificateService,
  NewCertificatePolicy,
} from '../vault/certificates.ts';
import { about, creating } from './key-vault-certificate-requests.ts';
import { changesToSdk, findOperation, policyToSdk } from './key-vault-certificate-shapes.ts';
import { type Connection, send } from './key-vault-connection.ts';
import { isNotFound } from './key-vault-lifecycle.ts';

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;

export function operations(
  connection: Connection<CertificateClient>,
): Part<'create' | 'getOperation' | 'cancelOperation' | 'deleteOperation'> {
  return {
    create: async (name, policy, changes = {}) => {
      const request = creating('create', 'createCertificate', name);
      checkCertificateChanges(changes);
      const wanted = await wantedPolicy(connection, name, policy);
      return send(connection, request, async (client, { signal }) => {
        const options = { ...changesToSdk(changes), abortSignal: signal };
        const { operation } = await watch((onResponse) =>
          client.beginCreateCertificate(name, wanted, { ...options, onResponse }),
        );
        return operation;
      });
    },
    getOperation: async (name) => {
      const request = about('get operation of', 'getCertificateOperation', name);
      return send(connection, request, async (client, { signal }) => {
        const { operation } = await look(client, name, signal);
        return operation;
      });
    },
    cancelOperation: async (name) => {
      const request = about('cancel operation of', 'cancelCertificateOperation', name);
      return send(connection, request, async (client, { signal }, attempt) => {
        const { operation, poller } = await look(client, name, signal);
        // An earlier try of ours has done it, although its answer was lost.
        if (attempt > 1 && operation.cancellationRequested) return operation;
        if (operation.status !== 'inProgress' || poller === null) {
          const detail = `cancel operation of ${name} in ${connection.alias}: ${operation.status}`;
          throw new AppError('conflict', { detail });
        }
        await poller.cancelOperation({ abortSignal: signal });
        return { ...operation, cancellationRequested: true };
      });
    },
    deleteOperation: async (name) => {
      const request = about('delete operation of', 'deleteCertificateOperation', name);
      await send(connection, request, async (client, { signal }, attempt) => {
        try {
          await client.deleteCertificateOperation(name, { abortSignal: signal });
        } catch (error) {
          if (attempt === 1 || !isNotFound(error)) throw error;
        }
      });
    },
  };
}

/** That of the version before when none is given; the SDK cannot do without. */
async function wantedPolicy(
  connection: Connection<CertificateClient>,
  name: string,
  policy: NewCertificatePolicy | null,
): Promise<SdkPolicy> {
  if (policy !== null) {
    checkNewPolicy(policy);
    return policyToSdk(policy);
  }
  const request = about('get policy of', 'getCertificatePolicy', name);
  return send(connection, request, (client, { signal }) =>
    client.getCertificatePolicy(name, { abortSignal: signal }),
  );
}

/** Asks for the operation once. A poller that has not "started" asks for the certificate, too. */
function look(client: CertificateClient, name: string, abortSignal: AbortSignal) {
  const resumeFrom = JSON.stringify({ state: { isStarted: true } });
  return watch((onResponse) =>
    client.getCertificateOperation(name, { abortSignal, resumeFrom, onResponse }),
  );
}

type Begin<Poller> = (
  onResponse: (response: { readonly parsedBody?: unknown }) => void,
) => Promise<Poller>;

/**
 * The operation as the vault told it last. One SDK poller keeps it to itself, both throw when it has failed, and
 * what they ask beside it may fail without harm.
 */
async function watch<Poller>(
  begin: Begin<Poller>,
): Promise<{ readonly operation: CertificateOperation; readonly poller: Poller | null }> {
  const told: CertificateOperation[] = [];
  const listen = ({ parsedBody }: { readonly parsedBody?: unknown }) => {
    const operation = findOperation(parsedBody);
    if (operation !== null) told.push(operation);
  };
  const ended = await begin(listen).then(
    (poller) => ({ poller, error: null }),
    (error: unknown) => ({ poller: null, error }),
  );
  const operation = told.at(-1);
  if (operation !== undefined) return { operation, poller: ended.poller };
  throw ended.error ?? new TypeError('a certificate operation without a status');
}
