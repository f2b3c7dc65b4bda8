import { AppError } from '../errors.ts';
import type { Perform } from './calls.ts';
import type { CertificateSettings } from './certificate-issuers.ts';
import {
  linkedKey,
  linkedSecret,
  type SimulatedCertificate,
  type SimulatedOperation,
} from './certificate-version.ts';
import type { KeyStore } from './key-version.ts';
import type { SecretStore } from './secrets.ts';
import { type DeletedObject, ObjectStore } from './store.ts';

/** What the parts of the service work with. */
export interface CertificateTools {
  readonly store: CertificateStore;
  readonly settings: CertificateSettings;
  readonly url: string;
  readonly perform: Perform;
  readonly now: () => Date;
}

/** Certificates, whose keys and secrets lie in the other stores under the same name and version and share their life. */
export class CertificateStore extends ObjectStore<SimulatedCertificate> {
  readonly #keys: KeyStore;
  readonly #secrets: SecretStore;

  constructor(place: string, keys: KeyStore, secrets: SecretStore) {
    super('certificate', place);
    this.#keys = keys;
    this.#secrets = secrets;
  }

  /** That a new version may be begun. @throws AppError `object_deleted`, `conflict` */
  mustBeCreatable(name: string, now: Date): void {
    this.freeName(name, now);
    const [latest] = this.versions(name).length === 0 ? [] : [this.get(name)];
    if (latest?.operation?.status === 'inProgress') {
      throw new AppError('conflict', { detail: `certificate ${name}: a creation is under way` });
    }
    for (const [type, store] of this.#linked()) {
      store.freeName(name, now);
      const isForeign = store.versions(name).some(({ properties }) => !properties.managed);
      if (!isForeign) continue;
      throw new AppError('conflict', { detail: `certificate ${name}: a ${type} has this name` });
    }
  }

  /** Adds a draft in the place of an earlier one. */
  addDraft(draft: SimulatedCertificate): void {
    this.erase(draft.properties.name);
    this.add(draft);
  }

  /** Adds an issued version as the latest, with its key and its secret; a draft gives way to it. */
  addIssued(version: SimulatedCertificate): void {
    const { name } = version.properties;
    const earlier = this.versions(name);
    if (earlier.every(({ issued }) => issued === null)) this.erase(name);
    this.add(version);
    const { issued } = version;
    if (issued === null) return;
    this.#keys.add(linkedKey(version, issued));
    this.#secrets.add(linkedSecret(version, issued));
  }

  /** Changes a version; its key and its secret follow. @throws AppError `not_found` */
  override replace(changed: SimulatedCertificate): void {
    super.replace(changed);
    const { issued } = changed;
    if (issued === null) return;
    this.#keys.replace(linkedKey(changed, issued));
    this.#secrets.replace(linkedSecret(changed, issued));
  }

  /** Puts down how the latest creation goes. @throws AppError `not_found` */
  setOperation(name: string, operation: SimulatedOperation | null): void {
    this.replace({ ...this.get(name), operation });
  }

  override delete(name: string, now: Date): DeletedObject<SimulatedCertificate> {
    const deleted = super.delete(name, now);
    for (const [, store] of this.#linked()) {
      if (store.versions(name).length > 0) store.delete(name, now);
    }
    return deleted;
  }

  /** Those that were never issued are in no list. */
  override listDeleted(now: Date): DeletedObject<SimulatedCertificate>[] {
    return super.listDeleted(now).filter(({ latest }) => latest.issued !== null);
  }

  override recover(name: string, now: Date): SimulatedCertificate {
    const latest = super.recover(name, now);
    for (const [, store] of this.#linked()) {
      if (latest.issued !== null) store.recover(name, now);
    }
    return latest;
  }

  override purge(name: string, now: Date): void {
    const { latest } = this.getDeleted(name, now);
    super.purge(name, now);
    for (const [, store] of this.#linked()) {
      if (latest.issued !== null) store.purge(name, now);
    }
  }

  /** @throws AppError `conflict` when the name is taken, by a key or a secret too */
  override restore(versions: readonly SimulatedCertificate[], now: Date): SimulatedCertificate {
    const name = versions[0]?.properties.name ?? '';
    const taken = this.#linked().find(([, store]) => store.has(name, now));
    if (taken !== undefined) {
      throw new AppError('conflict', { detail: `restore certificate ${name}: a ${taken[0]}` });
    }
    const latest = super.restore(versions, now);
    for (const version of versions) {
      if (version.issued === null) continue;
      this.#keys.add(linkedKey(version, version.issued));
      this.#secrets.add(linkedSecret(version, version.issued));
    }
    return latest;
  }

  #linked() {
    return [
      ['key', this.#keys],
      ['secret', this.#secrets],
    ] as const;
  }
}
