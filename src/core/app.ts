import { randomUUID } from 'node:crypto';
import { type Audit, openAudit } from './audit/log.ts';
import { createTokenVerifier } from './auth/tokens.ts';
import { processCredential } from './azure/credential.ts';
import { createVaults } from './azure/key-vault.ts';
import { type AzureStorage, createAzureStorage } from './azure/storage.ts';
import { startTelemetry, type TelemetrySettings } from './azure/telemetry.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { deliver, type OutboxServices } from './consumers/outbox.ts';
import { AppError, hasCode } from './errors.ts';
import { scanSecrets } from './expiry/scan.ts';
import { type Invocation, invocationObserver } from './invocation.ts';
import { errorFields, jsonLog } from './log.ts';
import type { OperationServices } from './operations/index.ts';
import type { ServeServices } from './operations/serve.ts';
import { folderSource, storageSource } from './policies/source.ts';
import { handleRotation, quarantinePoisoned } from './rotation/engine.ts';
import { handlers } from './rotation/handlers/index.ts';
import { takeEvent, takeScanned } from './rotation/intake.ts';
import { parseRotationMessage, type RotationMessage } from './rotation/message.ts';
import { eraseOrphans } from './rotation/orphans.ts';
import { type PendingStore, sealedPendingStore, vaultPendingStore } from './rotation/pending.ts';
import { currentCatalog, type EngineServices } from './rotation/services.ts';
import { sweep } from './rotation/sweep.ts';
import { inSpan, tracedLog } from './telemetry.ts';
import { objectId, type Vaults } from './vault/ports.ts';
import { gaugeVaults, vaultTelemetry } from './vault/telemetry.ts';

export { bootSettings, configFromEnvironment } from './config.ts';
export type { Invocation } from './invocation.ts';

const version = '0.1.0';

/** What the edges call. Everything behind it is built once, on first use. */
export interface App {
  /**
   * Runs one invocation within its span. Telemetry never fails it, and makes it wait
   * only until the SDK is loaded, the first time.
   */
  observed<T>(invocation: Invocation, run: () => Promise<T>): Promise<T>;
  /** To be called last: sends what telemetry still holds, for 3 s at most. */
  stop(): Promise<void>;
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
  let telemetry: ReturnType<typeof createTelemetry> | null = null;
  return {
    async observed(invocation, run) {
      telemetry ??= createTelemetry(config);
      const { observe, flush } = await telemetry;
      return await observe(invocation, run).finally(flush);
    },
    async stop() {
      await (await telemetry)?.stop();
    },
    http: once(() => createHttp(config, engine())),
    async takeEvent(event) {
      await takeEvent(engine(), event);
    },
    async takeRotation(message) {
      const parsed = parseOrRefuse(engine(), message);
      if (parsed) await work(engine(), parsed, handleRotation);
    },
    async takePoisonedRotation(message) {
      const parsed = parseOrRefuse(engine(), message);
      if (parsed) await work(engine(), parsed, quarantinePoisoned);
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
      const facts = { 'keyturn.delivery': id };
      await inSpan('notification.deliver', { facts }, async (span) =>
        span.set({
          'keyturn.delivery.result': await deliver(partition, id, outboxOf(config, engine())),
        }),
      );
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

/** Has a message handled within a span that says which, and what became of it. */
async function work(
  services: EngineServices,
  message: RotationMessage,
  handle: typeof handleRotation,
): Promise<void> {
  const { kind, requestId, vault, type, name } = message;
  const facts = {
    'keyturn.rotation.id': requestId,
    'keyturn.rotation.order': kind,
    'keyturn.object': objectId({ vault, type, name }),
  };
  await inSpan('rotation.work', { facts }, async (span) => {
    const handled = await handle(services, message);
    const state = handled.kind === 'ended' ? handled.state : null;
    span.set({ 'keyturn.rotation.result': handled.kind, 'keyturn.rotation.state': state });
  });
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
  const vaults = createVaults(config.KEYTURN_VAULTS, credential, { observer: vaultTelemetry() });
  gaugeVaults(vaults.all());
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
    log: tracedLog(jsonLog()),
    settings: {
      holder,
      leaseSeconds: config.KEYTURN_LEASE_SECONDS,
      retrySeconds: config.KEYTURN_RETRY_SECONDS,
      invocationSeconds: 240,
    },
  };
}

/** What is put around invocations: nothing at all where nobody is told. */
async function createTelemetry(config: Config) {
  const telemetry = await startTelemetry(telemetrySettings(config), jsonLog());
  if (telemetry === null) {
    const nothing = () => undefined;
    const observe = <T>(_: Invocation, run: () => Promise<T>) => run();
    return { observe, flush: nothing, stop: async () => undefined };
  }
  return { ...telemetry, observe: invocationObserver(hostTells(config)) };
}

/** The host tells Application Insights in any mode, and OpenTelemetry receivers in one. */
function hostTells(config: Config): boolean {
  return config.APPLICATIONINSIGHTS_CONNECTION_STRING !== undefined || hostExports(config);
}

function hostExports(config: Config): boolean {
  return config.AzureFunctionsJobHost__telemetryMode?.toLowerCase() === 'opentelemetry';
}

function telemetrySettings(config: Config): TelemetrySettings {
  const connectionString = config.APPLICATIONINSIGHTS_CONNECTION_STRING;
  const byIdentity = /Authorization=AAD/i.test(
    config.APPLICATIONINSIGHTS_AUTHENTICATION_STRING ?? '',
  );
  const credential = byIdentity ? processCredential(config.KEYTURN_CLIENT_ID) : null;
  return {
    otlp: config.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined,
    azureMonitor: connectionString === undefined ? null : { connectionString, credential },
    hostExports: hostExports(config),
    hasSampler: config.OTEL_TRACES_SAMPLER !== undefined,
    exportMs: Number(config.OTEL_EXPORTER_OTLP_TIMEOUT ?? 5_000),
    metricsEveryMs: Number(config.OTEL_METRIC_EXPORT_INTERVAL ?? 60_000),
    resource: {
      'service.name': config.OTEL_SERVICE_NAME ?? config.WEBSITE_SITE_NAME ?? 'keyturn',
      'service.version': version,
      'service.instance.id': config.WEBSITE_INSTANCE_ID ?? randomUUID(),
      'keyturn.role': config.KEYTURN_ROLE,
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
