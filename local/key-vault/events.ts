import { randomUUID } from 'node:crypto';
import type { AuditRecord } from './audit.ts';
import type { Clock } from './clock.ts';
import { type ObjectType, objectTypes, type Stored, type Version } from './store.ts';
import { resourceId, type Vault } from './vault.ts';

/** An event of a vault's system topic, in the Event Grid schema. NBF and EXP are seconds; `null` when not set. */
export type VaultEvent = {
  readonly id: string;
  /** Resource id of the vault. */
  readonly topic: string;
  readonly subject: string;
  readonly eventType: string;
  readonly eventTime: string;
  readonly data: {
    readonly Id: string;
    readonly VaultName: string;
    readonly ObjectType: ObjectType | 'Vault';
    readonly ObjectName: string;
    readonly Version: string;
    readonly NBF: number | null;
    readonly EXP: number | null;
  };
  readonly dataVersion: '1';
  readonly metadataVersion: '1';
};

export type VaultEventKind = 'new-version' | 'near-expiry' | 'expired';

const kindNames: Readonly<Record<VaultEventKind, string>> = {
  'new-version': 'NewVersionCreated',
  'near-expiry': 'NearExpiry',
  expired: 'Expired',
};
const collections: Readonly<Record<ObjectType, string>> = {
  Secret: 'secrets',
  Key: 'keys',
  Certificate: 'certificates',
};
// Enough for every event of a test run, and a bound for an emulator that runs for weeks.
const maxRemembered = 10_000;

export type VaultEvents = {
  readonly send: (kind: VaultEventKind, about: EventSubject) => VaultEvent;
  /** Sends the event of that kind and version again, under the same id, as a redelivery would. */
  readonly sendAgain: (kind: VaultEventKind, about: EventSubject) => VaultEvent;
  /** Tells that the permission model of the vault has changed. */
  readonly sendPolicyChanged: (vault: Vault) => VaultEvent;
};

/** The one event that is about no object. */
export const policyChanged = 'VaultAccessPolicyChanged';

export type EventSubject = {
  readonly vault: Vault;
  readonly type: ObjectType;
  readonly object: Stored;
  readonly version: Version;
};

/** @param onEvent called after the request that caused the event; what it throws is logged and stops nothing */
export function createVaultEvents(
  { now }: Pick<Clock, 'now'>,
  onEvent: (event: VaultEvent) => unknown,
): VaultEvents {
  const sent = new Map<string, VaultEvent>();
  const deliver = (event: VaultEvent): VaultEvent => {
    setImmediate(async () => {
      try {
        await onEvent(event);
      } catch (error) {
        console.error(`key-vault: the listener of ${event.eventType} failed`, error);
      }
    });
    return event;
  };
  const send = (kind: VaultEventKind, about: EventSubject): VaultEvent => {
    const event = describeEvent(kind, about, new Date(now()));
    sent.set(keyOfEvent(kind, about), event);
    const [oldest] = sent.keys();
    if (sent.size > maxRemembered && oldest !== undefined) sent.delete(oldest);
    return deliver(event);
  };
  const sendAgain = (kind: VaultEventKind, about: EventSubject): VaultEvent => {
    const earlier = sent.get(keyOfEvent(kind, about));
    return earlier === undefined ? send(kind, about) : deliver(earlier);
  };
  const sendPolicyChanged = (vault: Vault): VaultEvent =>
    deliver(describePolicyChange(vault, new Date(now())));
  return { send, sendAgain, sendPolicyChanged };
}

/** @returns what `SecretNearExpiry` or `Microsoft.KeyVault.SecretNearExpiry` names; `null` when nothing */
export function findEventKind(
  eventType: string,
): { readonly type: ObjectType; readonly kind: VaultEventKind } | null {
  const name = eventType.replace(/^Microsoft\.KeyVault\./, '');
  const kinds = Object.keys(kindNames) as VaultEventKind[];
  const known = objectTypes.flatMap((type) => kinds.map((kind) => ({ type, kind })));
  return known.find(({ type, kind }) => name === `${type}${kindNames[kind]}`) ?? null;
}

function describeEvent(kind: VaultEventKind, about: EventSubject, time: Date): VaultEvent {
  const { vault, type, object, version } = about;
  return {
    id: randomUUID(),
    topic: resourceId(vault),
    subject: object.name,
    eventType: `Microsoft.KeyVault.${type}${kindNames[kind]}`,
    eventTime: time.toISOString(),
    data: {
      Id: `${vault.publicUrl}/${collections[type]}/${object.name}/${version.version}`,
      VaultName: vault.name,
      ObjectType: type,
      ObjectName: object.name,
      Version: version.version,
      NBF: version.nbf ?? null,
      EXP: version.exp ?? null,
    },
    dataVersion: '1',
    metadataVersion: '1',
  };
}

/** The service logs that it has told of an expiry or of another permission model, whether anybody listens or not. */
export function noticeOf({ eventType, eventTime, topic, data }: VaultEvent): AuditRecord | null {
  const name = eventType.replace('Microsoft.KeyVault.', '');
  if (name.endsWith(kindNames['new-version'])) return null;
  const [, , subscriptionId = ''] = topic.split('/');
  return {
    at: Date.parse(eventTime),
    durationMs: 0,
    vault: data.VaultName,
    subscriptionId,
    baseUrl: new URL(data.Id).origin,
    operation: { id: name, serviceName: `${name}EventGridNotification` },
    ...(data.ObjectType === 'Vault'
      ? { collection: null, object: null, version: null }
      : {
          collection: collections[data.ObjectType],
          object: data.ObjectName,
          version: data.Version,
        }),
    caller: null,
    status: 200,
    description: null,
    fault: null,
  };
}

function describePolicyChange(vault: Vault, time: Date): VaultEvent {
  return {
    id: randomUUID(),
    topic: resourceId(vault),
    subject: vault.name,
    eventType: `Microsoft.KeyVault.${policyChanged}`,
    eventTime: time.toISOString(),
    data: {
      Id: vault.publicUrl,
      VaultName: vault.name,
      ObjectType: 'Vault',
      ObjectName: vault.name,
      Version: '',
      NBF: null,
      EXP: null,
    },
    dataVersion: '1',
    metadataVersion: '1',
  };
}

function keyOfEvent(kind: VaultEventKind, { vault, type, version }: EventSubject): string {
  return `${kind} ${vault.name} ${type} ${version.version}`;
}
