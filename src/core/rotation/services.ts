import type { Audit } from '../audit/log.ts';
import type { Clock } from '../clock.ts';
import { AppError, hasCode } from '../errors.ts';
import type { Log } from '../log.ts';
import { type Catalog, type DocumentSource, readCatalog } from '../policies/catalog.ts';
import type { DocumentStore, WorkQueue } from '../storage/ports.ts';
import type { Vaults } from '../vault/ports.ts';
import type { AnyHandler } from './handler.ts';
import type { LeaseTools } from './lease.ts';
import { type Resumable, resumeMessage } from './message.ts';
import type { PendingStore } from './pending.ts';
import type { Credential } from './value.ts';

/** What the engine works with. All durable state lies in `store`; the engine itself has none. */
export interface EngineServices {
  readonly store: DocumentStore;
  readonly rotations: WorkQueue;
  readonly notifications: WorkQueue;
  readonly vaults: Vaults;
  readonly documents: DocumentSource;
  readonly handlers: ReadonlyMap<string, AnyHandler>;
  readonly pending: PendingStore;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: EngineSettings;
}

export interface EngineSettings {
  /** Unique to this process: the holder in leases. */
  readonly holder: string;
  readonly leaseSeconds: number;
  /** First pause after a failed try; doubles up to five minutes. */
  readonly retrySeconds: number;
  /** One invocation stops beginning steps after this long and hands over to a message. */
  readonly invocationSeconds: number;
}

/** The documents as they are now; faults are logged each time, since a policy at fault protects nothing. */
export async function currentCatalog(services: EngineServices): Promise<Catalog> {
  const catalog = readCatalog(await services.documents.read(), services.handlers);
  for (const fault of catalog.faults) services.log.error('catalog.faulty', { fault });
  return catalog;
}

/** A target's admin credential as it is now. @throws AppError `bad_configuration` */
export async function readAdmin(
  { vaults }: Pick<EngineServices, 'vaults'>,
  admin: { readonly vault: string; readonly name: string; readonly username: string } | null,
): Promise<Credential> {
  if (!admin) throw new AppError('bad_configuration', { detail: 'the target has no admin secret' });
  try {
    const { value } = await vaults.get(admin.vault).secrets.get(admin.name);
    return { username: admin.username, password: value };
  } catch (cause) {
    if (!hasCode(cause, 'not_found', 'object_disabled')) throw cause;
    throw new AppError('bad_configuration', {
      detail: `admin secret ${admin.vault}/${admin.name}: store it, enabled`,
      cause,
    });
  }
}

export function leaseTools({ store, clock, settings }: EngineServices): LeaseTools {
  return { store, clock, holder: settings.holder, seconds: settings.leaseSeconds };
}

/** A short wait has its own message, so that it is not as long as the sweep is slow. */
export async function comeBack(
  services: EngineServices,
  journal: Resumable,
  until: Date,
): Promise<void> {
  const seconds = Math.ceil((until.getTime() - services.clock.now().getTime()) / 1000);
  if (seconds > 60) return;
  await services.rotations.send(resumeMessage(journal), Math.max(seconds, 0));
}
