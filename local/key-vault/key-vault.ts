import { AuditRows } from './audit.ts';
import { watchCertificates } from './certificate-watch.ts';
import { type Clock, createClock } from './clock.ts';
import type { ControlPlane } from './control/plane.ts';
import { type DataFile, openDataFile } from './data-file.ts';
import {
  type Endpoint,
  serveControl,
  serveVault,
  serveVaultPlainly,
  type Tls,
} from './endpoints.ts';
import {
  createVaultEvents,
  type EventSubject,
  noticeOf,
  type VaultEvent,
  type VaultEventKind,
} from './events.ts';
import type { Service } from './exchange.ts';
import { type Expiring, type NearExpiry, watchExpiry } from './expiry-watch.ts';
import { FaultRules } from './faults.ts';
import { ownLeadSeconds, watchRotation } from './key-rotation-watch.ts';
import { operations } from './operations.ts';
import { Revocations } from './revocations.ts';
import { createRouter } from './router.ts';
import { applyState, readStateFile, type State } from './state.ts';
import { currentVersion, objectTypes } from './store.ts';
import { type SwitchChanges, switchesOf } from './switches.ts';
import { Throttle } from './throttling.ts';
import { createTokenCheck, type TokenRules } from './token-check.ts';
import { createVault, storeOf, type Vault } from './vault.ts';

export type { VaultEvent } from './events.ts';

type VaultOptions = {
  readonly name: string;
  /** 0 or absent: any free port. */
  readonly port?: number;
  /** A second port, with plain http for clients that can do without TLS; 0: any free port. Absent: none. */
  readonly httpPort?: number;
  /** What ids start with; default `https://localhost:PORT`. Set it when a proxy stands in front. */
  readonly publicUrl?: string;
  /** 7 to 90, default 90. */
  readonly retentionDays?: number;
  readonly purgeProtection?: boolean;
  /** How it is to behave at the start, and after every reset. */
  readonly switches?: SwitchChanges;
};

export type KeyVaultOptions = {
  readonly vaults: readonly VaultOptions[];
  /** 0 or absent: any free port. */
  readonly controlPort?: number;
  readonly tls: Tls;
  /** Absent: any bearer token is accepted, but one must be there. */
  readonly verifyToken?: TokenRules;
  /** Tenant named in challenges. */
  readonly tenantId?: string;
  /** Gets every event of every vault's system topic. */
  readonly onEvent?: (event: VaultEvent) => unknown;
  /** Defaults: 30 days, 900 s. */
  readonly nearExpiry?: Partial<NearExpiry>;
  readonly location?: string;
  readonly subscriptionId?: string;
  readonly geography?: string;
  /** State is loaded from it at start and kept in it; absent: memory only. */
  readonly dataFile?: string;
  /** A state that takes the place of what is in the vaults it names. */
  readonly loadFile?: string;
};

export type KeyVaultEmulator = {
  readonly vaults: readonly {
    readonly name: string;
    readonly url: string;
    readonly httpUrl?: string;
  }[];
  readonly controlUrl: string;
  /** Closes every connection, saves the state, leaves no timer. */
  readonly stop: () => Promise<void>;
};

const defaultTenantId = '5f9c7a52-3a3e-4d0f-9b51-6c2f0e8d1a47';
const defaultNearExpiry: NearExpiry = { leadSeconds: 30 * 86_400, delaySeconds: 900 };

/**
 * Starts the emulator: one TLS port a vault on 127.0.0.1, a plain one beside it where wished, and the control API.
 *
 * @throws Error when a port is taken, a vault setting is wrong or a file cannot be read; nothing is left open
 */
export async function startKeyVault(options: KeyVaultOptions): Promise<KeyVaultEmulator> {
  const parts = assemble(options);
  const { vaults, clock, data, service, httpUrls } = parts;
  const endpoints: Endpoint[] = [];
  const stop = async (): Promise<void> => {
    clock.stop();
    await Promise.all(endpoints.map(({ close }) => close()));
    await data.close();
  };
  try {
    await data.load();
    if (options.loadFile !== undefined) {
      applyState(vaults, await readStateFile(options.loadFile));
      data.changed();
    }
    const opened = async (opening: Promise<Endpoint>): Promise<string> => {
      const endpoint = await opening;
      endpoints.push(endpoint);
      return endpoint.url;
    };
    for (const [index, vault] of vaults.entries()) {
      const { port = 0, httpPort, publicUrl } = options.vaults[index] ?? {};
      const url = await opened(serveVault(service, vault, options.tls, port));
      vault.publicUrl = (publicUrl ?? url).replace(/\/$/, '');
      if (httpPort === undefined) continue;
      httpUrls.set(vault.name, await opened(serveVaultPlainly(service, vault, httpPort)));
    }
    const controlUrl = await opened(serveControl(parts.control, options.controlPort ?? 0));
    // Only now: events carry the vault's URL, which is known once it listens.
    for (const vault of vaults) parts.watchAll(vault);
    return {
      vaults: vaults.map(({ name, publicUrl: url }) => {
        const httpUrl = httpUrls.get(name);
        return { name, url, ...(httpUrl === undefined ? {} : { httpUrl }) };
      }),
      controlUrl,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Parts = {
  readonly vaults: readonly Vault[];
  readonly clock: Clock;
  readonly data: DataFile;
  readonly service: Service;
  readonly control: ControlPlane;
  readonly httpUrls: Map<string, string>;
  /** Announces what the objects of a vault will come to. */
  readonly watchAll: (vault: Vault) => void;
};

function assemble(options: KeyVaultOptions): Parts {
  const clock = createClock();
  const { now } = clock;
  const vaults = createVaults(options, now);
  const audit = new AuditRows();
  const events = createVaultEvents(clock, (event) => {
    const notice = noticeOf(event);
    if (notice !== null) audit.add(notice);
    return options.onEvent?.(event);
  });
  const announce = (kind: VaultEventKind, about: EventSubject): void => {
    events.send(kind, about);
    // The version is marked as announced, which must outlive this process too.
    data.changed();
  };
  const nearExpiry = { ...defaultNearExpiry, ...options.nearExpiry };
  const expiry = watchExpiry(clock, nearExpiry, announce, ownLeadSeconds);
  const rotations = watchRotation(clock, (vault, key) =>
    service.changed(vault, { type: 'Key', object: key, event: 'new-version' }),
  );
  const certificates = watchCertificates(clock, (vault, change) => service.changed(vault, change));
  const watch = (about: Expiring): void => {
    expiry.watch(about);
    if (about.type === 'Certificate') certificates.watch(about.vault, about.object.name);
    if (about.type === 'Key') rotations.watch(about.vault, about.object.name);
  };
  const data = openDataFile(options.dataFile ?? null, vaults);
  const watchAll = (vault: Vault): void => {
    for (const type of objectTypes) {
      for (const object of storeOf(vault, type).list()) watch({ vault, type, object });
    }
  };
  const service: Service = {
    router: createRouter(operations),
    tenantId: options.tenantId ?? defaultTenantId,
    challenges: { style: 'resource' },
    checkToken: createTokenCheck(options.verifyToken),
    revocations: new Revocations(),
    throttle: new Throttle(),
    faults: new FaultRules(),
    audit,
    changed: (seen, change) => {
      data.changed();
      if (change === undefined) return;
      const { type, object, event } = change;
      // Events name the vault as everybody knows it, whatever port the change came in by.
      const vault = vaults.find(({ name }) => name === seen.name) ?? seen;
      const about = { vault, type, object };
      if (event !== undefined) events.send(event, { ...about, version: currentVersion(object) });
      watch(about);
    },
    now,
  };
  const loadState = (state: State): void => {
    for (const vault of applyState(vaults, state)) watchAll(vault);
    data.changed();
  };
  const initial = new Map(vaults.map((vault) => [vault.name, switchesOf(vault)]));
  const httpUrls = new Map<string, string>();
  const control: ControlPlane = {
    ...{ vaults, httpUrls, service, clock, events, loadState },
    initialSwitches: (vault) => initial.get(vault.name) ?? switchesOf(vault),
    startedAt: new Date(),
  };
  return { vaults, clock, data, service, control, httpUrls, watchAll };
}

function createVaults(
  { vaults, location = 'local', subscriptionId, geography }: KeyVaultOptions,
  clock: () => number,
): Vault[] {
  const names = vaults.map(({ name }) => name.toLowerCase());
  if (names.length === 0) throw new Error('The emulator needs at least one vault.');
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Error(`Two vaults are named "${twice}".`);
  const place = {
    ...(subscriptionId === undefined ? {} : { subscriptionId }),
    ...(geography === undefined ? {} : { geography }),
  };
  return vaults.map(({ name, retentionDays = 90, purgeProtection = false, switches }) => {
    const settings = { name, retentionDays, purgeProtection, location };
    return createVault({ ...settings, ...place, ...switches }, clock);
  });
}
