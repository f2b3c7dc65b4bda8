import type { Clock } from './clock.ts';
import type { EventSubject, VaultEventKind } from './events.ts';
import { currentVersion, keyOf, type Stored, type Version } from './store.ts';
import { storeOf } from './vault.ts';

export type NearExpiry = {
  /** How long before `exp` the event is sent. */
  readonly leadSeconds: number;
  /** How long after the last change it is sent when `exp` is nearer than the lead already. */
  readonly delaySeconds: number;
};

export type Expiring = Omit<EventSubject, 'version'>;

export type ExpiryWatch = {
  /** Looks at the object anew; to be called after every change of it. */
  readonly watch: (expiring: Expiring) => void;
};

type Due = { readonly kind: VaultEventKind; readonly at: number };

/**
 * Announces that current versions come near their expiry and that they have expired, each once per version; disabled
 * versions too, superseded ones no more.
 *
 * @param announce sends the event; the version is marked before
 * @param leadOf an object's own `leadSeconds` for a version that ends then; `null`: that of `nearExpiry`
 */
export function watchExpiry(
  clock: Pick<Clock, 'now' | 'at'>,
  nearExpiry: NearExpiry,
  announce: (kind: VaultEventKind, about: EventSubject) => void,
  leadOf: (object: Stored, exp: number) => number | null = () => null,
): ExpiryWatch {
  const dueOf = (object: Stored): Due | null => {
    const version = currentVersion(object);
    const own = version.exp === undefined ? null : leadOf(object, version.exp);
    return nextDue(version, own === null ? nearExpiry : { ...nearExpiry, leadSeconds: own });
  };
  const waiting = new Map<string, () => void>();
  const watch = (expiring: Expiring): void => {
    const key = `${expiring.vault.name} ${expiring.type} ${keyOf(expiring.object.name)}`;
    waiting.get(key)?.();
    waiting.delete(key);
    if (!isLive(expiring)) return;
    const version = currentVersion(expiring.object);
    let due = dueOf(expiring.object);
    while (due !== null && due.at <= clock.now()) {
      version.announced = [...(version.announced ?? []), due.kind];
      announce(due.kind, { ...expiring, version });
      due = dueOf(expiring.object);
    }
    if (due !== null)
      waiting.set(
        key,
        clock.at(due.at, () => watch(expiring)),
      );
  };
  return { watch };
}

/** What is to be announced next for a version, and when (milliseconds); `null` when nothing is left. */
export function nextDue(version: Version, { leadSeconds, delaySeconds }: NearExpiry): Due | null {
  if (version.exp === undefined) return null;
  const announced = version.announced ?? [];
  if (!announced.includes('near-expiry')) {
    const wished = Math.max(version.exp - leadSeconds, version.updated + delaySeconds);
    // Not after the end itself, however short the life.
    return { kind: 'near-expiry', at: Math.min(wished, version.exp) * 1000 };
  }
  return announced.includes('expired') ? null : { kind: 'expired', at: version.exp * 1000 };
}

/** Deleted objects, and those purged and made anew, are no longer what their store holds. */
function isLive({ vault, type, object }: Expiring): boolean {
  return storeOf(vault, type).find(object.name) === object;
}
