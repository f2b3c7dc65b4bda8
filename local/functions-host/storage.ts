import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { connectionString } from './settings.ts';

/**
 * What a storage call is for. It is the first word of the call's User-Agent, so that a proxy can tell
 * the host's idle traffic (`keyturn-host-poll`, `-renewal`, `-lock`) from its work (`keyturn-host-work`)
 * and both from the app's own calls.
 */
type Traffic = 'poll' | 'renewal' | 'lock' | 'work';

export interface HostStorage {
  /** The queue service a binding's `connection` names. */
  queues(connection: string | undefined, traffic: Traffic): QueueServiceClient;
  /** The container that holds timer locks and timer states; created on first use. */
  hostContainer(): Promise<ContainerClient>;
  /** Names locks and timers: two hosts with one id and one storage share them. */
  readonly hostId: string;
}

export function createStorage(appDir: string, env: NodeJS.ProcessEnv): HostStorage {
  const services = new Map<string, QueueServiceClient>();
  let container: Promise<ContainerClient> | null = null;
  return {
    hostId: env['AzureFunctionsWebHost__hostid'] ?? defaultHostId(appDir),
    queues(connection, traffic) {
      const key = `${traffic} ${connection ?? ''}`;
      const known = services.get(key);
      if (known !== undefined) return known;
      const service = QueueServiceClient.fromConnectionString(
        connectionString(connection, env),
        clientOptions(traffic),
      );
      services.set(key, service);
      return service;
    },
    async hostContainer() {
      container ??= openContainer(env);
      try {
        return await container;
      } catch (error) {
        container = null;
        throw error;
      }
    },
  };
}

async function openContainer(env: NodeJS.ProcessEnv): Promise<ContainerClient> {
  const service = BlobServiceClient.fromConnectionString(
    connectionString(undefined, env),
    clientOptions('lock'),
  );
  const client = service.getContainerClient('azure-webjobs-hosts');
  await client.createIfNotExists();
  return client;
}

function clientOptions(traffic: Traffic) {
  // Listeners come back by themselves; only work that must not be lost is repeated here.
  const maxTries = traffic === 'work' ? 5 : 1;
  return {
    userAgentOptions: { userAgentPrefix: `keyturn-host-${traffic}` },
    retryOptions: {
      maxTries,
      tryTimeoutInMs: 30_000,
      retryDelayInMs: 200,
      maxRetryDelayInMs: 2000,
    },
    keepAliveOptions: { enable: true },
  };
}

function defaultHostId(appDir: string): string {
  return createHash('sha256').update(`${hostname()}:${appDir}`).digest('hex').slice(0, 32);
}
