import { randomUUID } from 'node:crypto';
import { type Audit, openAudit } from './audit/log.ts';
import { createTokenVerifier } from './auth/tokens.ts';
import { processCredential } from './azure/credential.ts';
import { createVaults } from './azure/key-vault.ts';
import { type AzureStorage, createAzureStorage } from './azure/storage.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { deliver, type OutboxServices } from './consumers/outbox.ts';
import { AppError, hasCode } from './errors.ts';
import { scanSecrets } from './expiry/scan.ts';
import { errorFields, jsonLog } from './log.ts';
import type { OperationServices } from './operations/index.ts';
import type { ServeServices } from './operations/serve.ts';
import { folderSource, storageSource } from './policies/source.ts';
import { handleRotation, quarantinePoisoned } from './rotation/engine.ts';
import { handlers } from './rotation/handlers/index.ts';
import { takeEvent, takeScanned } from './rotation/intake.ts';
import { parseRotationMessage } from './rotation/message.ts';
import { eraseOrphans } from './rotation/orphans.ts';
import { type PendingStore, sealedPendingStore, vaultPendingStore } from './rotation/pending.ts';
import { currentCatalog, type EngineServices } from './rotation/services.ts';
import { sweep } from './rotation/sweep.ts';
import type { Vaults } from './vault/ports.ts';

export { bootSettings, configFromEnvironment } from './config.ts';

const version = '0.1.0';

/** What the edges call. Everything behind it is built once, on first use. */
export interface App {
  /** What HTTP operations work with. */
  http(): ServeServices & OperationServices;
  /** An Event Grid event of any kind; resolves for whatever is not ours to retry. */
  takeEvent(event: unknown): Promise<void>;
  /** A message of the rotations queue. */
  takeRotation(message: unknown): Promise<void>;
  /** A message that failed again and again. */
  takePoisonedRotation(message: unknown): Promise<void>;
  /** A message of another queue that failed again and again: told and audited, then gone. */
  takePoisoned(queue: string, message: unknown): Promise<void>;
  /** A message of the notifications queue. */
  takeNotification(message: unknown): Promise<void>;
  sweep(): Promise<void>;
  scan(): Promise<void>;
}

/** The composition root. Nothing is asked of anything before the first call. */
export function createApp(config: Config): App {
  const engine = once(() => createEngine(config));
  return {
    http: once(() => createHttp(config, engine())),
    async takeEvent(event) {
      await takeEvent(engine(), event);
    },
    async takeRotation(message) {
      const parsed = parseOrRefuse(engine(), message);
      if (parsed) await handleRotation(engine(), parsed);
    },
    async takePoisonedRotation(message) {
      const parsed = parseOrRefuse(engine(), message);
      if (parsed) await quarantinePoisoned(engine(), parsed);
    },
    async takePoisoned(queue, message) {
      const { audit, clock, log } = engine();
      const at = clock.now();
      const bytes = JSON.stringify(message)?.length ?? 0;
      log.error('message.poisoned', { queue, bytes });
      const detail = { queue, bytes };
      const entry = {
        id: `poison.${randomUUID()}`,
        at,
        actor: 'queues',
        action: 'message.poisoned',
      };
      await audit.append([{ ...entry, outcome: 'failed', detail }]);
    },
    async takeNotification(message) {
      const { partition, id } = Object(message);
      if (typeof partition !== 'string' || typeof id !== 'string') {
        engine().log.error('message.refused', { queue: 'notifications' });
        return;
      }
      await deliver(partition, id, outboxOf(config, engine()));
    },
    async sweep() {
      await sweep(engine());
    },
    async scan() {
      const services = engine();
      const { policies } = await currentCatalog(services);
      const found = await takeScanned(services, scanSecrets({ ...services, policies }));
      const erased = await eraseOrphans(services);
      services.log.info('scan.finished', { ...found, erased });
    },
  };
}

/** A message nobody can read is logged and dropped: delivering it again would not mend it. */
function parseOrRefuse({ log }: EngineServices, message: unknown) {
  try {
    return parseRotationMessage(message);
  } catch (error) {
    if (!hasCode(error, 'invalid_input')) throw error;
    log.error('message.refused', { queue: 'rotations', ...errorFields(error) });
    return null;
  }
}

function createEngine(config: Config): EngineServices {
  const credential = processCredential(config.KEYTURN_CLIENT_ID);
  const storage = createStorage(config, credential);
  const vaults = createVaults(config.KEYTURN_VAULTS, credential);
  const source = config.KEYTURN_POLICIES;
  const holder = randomUUID();
  return {
    store: storage.documents,
    rotations: storage.queue('rotations'),
    notifications: storage.queue('notifications'),
    vaults,
    documents:
      source.kind === 'folder' ? folderSource(source.path) : storageSource(storage.documents),
    handlers,
    pending: createPending(config, vaults),
    audit: createAudit(storage, holder),
    clock: systemClock,
    log: jsonLog(),
    settings: {
      holder,
      leaseSeconds: config.KEYTURN_LEASE_SECONDS,
      retrySeconds: config.KEYTURN_RETRY_SECONDS,
      invocationSeconds: 240,
    },
  };
}

function createStorage(
  config: Config,
  credential: ReturnType<typeof processCredential>,
): AzureStorage {
  const namespace = config.KEYTURN_NAMESPACE;
  const names = { table: namespace, container: namespace, queuePrefix: `${namespace}-` };
  const { AzureWebJobsStorage: connectionString, AzureWebJobsStorage__accountName: accountName } =
    config;
  return connectionString
    ? createAzureStorage({ connectionString }, names)
    : createAzureStorage({ accountName: accountName ?? '', credential }, names);
}

function createPending(config: Config, vaults: Vaults): PendingStore {
  const pending = config.KEYTURN_PENDING;
  if (pending.kind === 'sealed') {
    return sealedPendingStore(vaults.get(pending.vault).secrets, pending.name);
  }
  const alias = config.KEYTURN_VAULTS.find((vault) => vault.purpose === 'pending')?.alias ?? '';
  return vaultPendingStore(vaults.get(alias).secrets);
}

function createAudit({ log }: AzureStorage, writer: string): Audit {
  return openAudit(log, { writer, clock: systemClock });
}

function outboxOf(config: Config, engine: EngineServices): OutboxServices {
  const allowedHosts = config.KEYTURN_WEBHOOK_HOSTS;
  return { ...engine, documents: engine.store, egress: { allowedHosts } };
}

function createHttp(config: Config, engine: EngineServices): ServeServices & OperationServices {
  const { audit, clock, log } = engine;
  return {
    ...{ audit, clock, log, engine, version },
    tokens: createTokenVerifier({
      issuers: config.KEYTURN_AUTH_ISSUERS,
      audience: config.KEYTURN_AUTH_AUDIENCES,
      jwksUri: config.KEYTURN_AUTH_JWKS_URI,
    }),
    checks: {
      storage: async () => void (await engine.store.get('health', 'probe')),
      documents: () => checkDocuments(engine),
    },
  };
}

/** @throws AppError `bad_configuration` with every fault of every document, one line each */
async function checkDocuments(engine: EngineServices): Promise<void> {
  const { faults } = await currentCatalog(engine);
  if (faults.length === 0) return;
  const lines = faults.map((fault) => `  ${fault}`).join('\n');
  throw new AppError('bad_configuration', { detail: `documents to mend:\n${lines}` });
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
