/** The storage ports on one Azure Storage account; SDK clients load on first use. */
import type { TokenCredential } from '@azure/identity';
import { AppError } from '../errors.ts';
import type { AppendLog, DocumentStore, WorkQueue } from '../storage/ports.ts';
import type { Limits } from '../vault/pipeline.ts';
import { azureLog } from './append-blobs.ts';
import { isLoopback } from './loopback.ts';
import { azureQueue } from './queues.ts';
import { storageLimits } from './storage-calls.ts';
import { batchPolicies } from './table-batches.ts';
import { azureDocuments } from './tables.ts';

export interface ServiceUrls {
  readonly table: string;
  readonly queue: string;
  readonly blob: string;
}

/** Where the account is and how to get in: a connection string, or an identity. */
export type StorageAccount =
  | { readonly connectionString: string }
  | { readonly accountName: string; readonly credential: TokenCredential }
  | { readonly serviceUrls: ServiceUrls; readonly credential: TokenCredential };

export interface StorageNames {
  /** 3 to 63 letters and digits. */
  readonly table: string;
  /** 3 to 63 lower-case letters, digits and single hyphens. */
  readonly container: string;
  /** Put before every queue's name. */
  readonly queuePrefix?: string;
}

export interface AzureStorage {
  readonly documents: DocumentStore;
  readonly log: AppendLog;
  queue(name: string): WorkQueue;
}

/** The three ports on one account. Nothing is asked of it before the first call. */
export function createAzureStorage(
  account: StorageAccount,
  names: StorageNames,
  limits: Limits = storageLimits,
): AzureStorage {
  const documents = azureDocuments(
    once(() => tableClient(account, names.table)),
    limits,
  );
  const log = azureLog(
    once(() => containerClient(account, names.container)),
    limits,
  );
  const queues = new Map<string, WorkQueue>();
  return {
    documents,
    log,
    queue: (name) => {
      const full = `${names.queuePrefix ?? ''}${name}`;
      const queue =
        queues.get(full) ??
        azureQueue(
          once(() => queueClient(account, full)),
          limits,
        );
      queues.set(full, queue);
      return queue;
    },
  };
}

async function tableClient(account: StorageAccount, table: string) {
  const { TableClient } = await import('@azure/data-tables');
  const options = {
    retryOptions: { maxRetries: 0 },
    additionalPolicies: batchPolicies,
    allowInsecureConnection: isLoopback(tableUrl(account)),
  };
  if ('connectionString' in account) {
    return TableClient.fromConnectionString(account.connectionString, table, options);
  }
  return new TableClient(urlsOf(account).table, table, account.credential, options);
}

async function queueClient(account: StorageAccount, name: string) {
  const { QueueClient, QueueServiceClient } = await import('@azure/storage-queue');
  if ('connectionString' in account) {
    return new QueueClient(account.connectionString, name, oneTry);
  }
  const service = new QueueServiceClient(urlsOf(account).queue, account.credential, oneTry);
  return service.getQueueClient(name);
}

async function containerClient(account: StorageAccount, container: string) {
  const { BlobServiceClient, ContainerClient } = await import('@azure/storage-blob');
  if ('connectionString' in account) {
    return new ContainerClient(account.connectionString, container, oneTry);
  }
  const service = new BlobServiceClient(urlsOf(account).blob, account.credential, oneTry);
  return service.getContainerClient(container);
}

const oneTry = { retryOptions: { maxTries: 1 } };

type IdentityAccount = Exclude<StorageAccount, { readonly connectionString: string }>;

function urlsOf(account: IdentityAccount): ServiceUrls {
  if ('serviceUrls' in account) return account.serviceUrls;
  const url = (service: string) => `https://${account.accountName}.${service}.core.windows.net`;
  return { table: url('table'), queue: url('queue'), blob: url('blob') };
}

function tableUrl(account: StorageAccount): string {
  if (!('connectionString' in account)) return urlsOf(account).table;
  if (/UseDevelopmentStorage=true/i.test(account.connectionString)) return 'http://127.0.0.1';
  const url = /(?:^|;)TableEndpoint=([^;]+)/i.exec(account.connectionString)?.[1];
  const name = /(?:^|;)AccountName=([^;]+)/i.exec(account.connectionString)?.[1];
  if (url === undefined && name === undefined) {
    throw new AppError('bad_configuration', { detail: 'not a storage connection string' });
  }
  return url ?? `https://${name}.table.core.windows.net`;
}

/** Makes a value at most once at a time; a failure is not kept. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}
