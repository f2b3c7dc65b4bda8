import { changedPolicy, checkPolicy } from '../vault/certificate-policy.ts';
import { checkCertificateChanges, checkCertificateName } from '../vault/certificate-rules.ts';
import type {
  CertificateChanges,
  CertificatePolicy,
  CertificateService,
} from '../vault/certificates.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { pages, performer, type Shared, type VaultState } from './calls.ts';
import { canonicalIssuer, completeSize } from './certificate-defaults.ts';
import {
  mustBeUsable,
  newSettings,
  simulatedContacts,
  simulatedIssuers,
} from './certificate-issuers.ts';
import { subjectOf } from './certificate-issuing.ts';
import { simulatedMaking } from './certificate-making.ts';
import type { CertificateStore, CertificateTools } from './certificate-store.ts';
import {
  describeCertificate,
  loadCertificate,
  type SavedCertificate,
  type SimulatedCertificate,
  saveCertificate,
} from './certificate-version.ts';
import { simulatedLifecycle } from './lifecycle.ts';
import { wholeSeconds } from './store.ts';

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;

/** Issuers answer at once, and never refuse; PFX is written, but not read. */
export function simulatedCertificates(
  store: CertificateStore,
  vault: VaultState,
  shared: Shared,
): CertificateService {
  const tools: CertificateTools = {
    ...{ store, url: vault.url, settings: newSettings() },
    perform: performer('certificate', vault, shared),
    now: () => shared.clock.now(),
  };
  return {
    ...reading(tools),
    ...policies(tools),
    ...simulatedMaking(tools),
    ...simulatedLifecycle(store, tools, {
      checkName: checkCertificateName,
      describe: (version: SimulatedCertificate) =>
        describeCertificate(vault.url, version, version.policy),
      save: saveCertificate,
      load: (saved: SavedCertificate) => loadCertificate(saved),
    }),
    ...simulatedIssuers(tools.settings, tools.perform),
    ...simulatedContacts(tools.settings, tools.perform),
  };
}

function reading({
  store,
  url,
  perform,
  now,
}: CertificateTools): Part<'get' | 'list' | 'listVersions' | 'update'> {
  return {
    get: async (name, version) => {
      checkCertificateName(name);
      if (version !== undefined) checkVersion(version);
      return perform('get', name, () => {
        const found = store.get(name, version);
        return describeCertificate(url, found, version === undefined ? found.policy : null);
      });
    },
    list: ({ includePending = false } = {}) =>
      pages(
        () =>
          store
            .latest()
            .filter(({ issued }) => issued !== null || includePending)
            .map(({ properties }) => ({ ...properties, version: '' })),
        (work) => perform('list', '', work),
      ),
    listVersions: (name) => {
      checkCertificateName(name);
      return pages(
        () =>
          store
            .versions(name)
            .filter(({ issued }) => issued !== null)
            .map(({ properties }) => properties),
        (work) => perform('listVersions', name, work),
      );
    },
    update: async (name, version, changes) => {
      checkCertificateName(name);
      checkVersion(version);
      checkCertificateChanges(changes);
      return perform('update', name, () => {
        const changed = changedVersion(store.get(name, version), changes, now());
        store.replace(changed);
        return describeCertificate(url, changed, null);
      });
    },
  };
}

function policies({
  store,
  settings,
  perform,
}: CertificateTools): Part<'getPolicy' | 'updatePolicy'> {
  return {
    getPolicy: async (name) => {
      checkCertificateName(name);
      return perform('getPolicy', name, () => store.get(name).policy);
    },
    updatePolicy: async (name, changes) => {
      checkCertificateName(name);
      return perform('updatePolicy', name, () => {
        const latest = store.get(name);
        const policy = wholePolicy(changedPolicy(latest.policy, changes));
        checkPolicy(policy);
        mustBeUsable(settings, policy.issuer);
        subjectOf(policy);
        store.replace({ ...latest, policy });
        return policy;
      });
    },
  };
}

function wholePolicy(policy: CertificatePolicy): CertificatePolicy {
  return { ...policy, issuer: canonicalIssuer(policy.issuer), ...completeSize(policy) };
}

/** A draft stays disabled until it is issued; what is said of that counts from then on. */
function changedVersion(
  old: SimulatedCertificate,
  { enabled, tags }: CertificateChanges,
  now: Date,
): SimulatedCertificate {
  const { issued, operation } = old;
  const changes = { updated: wholeSeconds(now), ...(tags ? { tags: { ...tags } } : {}) };
  const properties = { ...old.properties, ...changes };
  if (issued !== null) {
    return { ...old, properties: { ...properties, enabled: enabled ?? properties.enabled } };
  }
  return {
    ...old,
    properties,
    operation: operation && {
      ...operation,
      draft: { ...operation.draft, ...changes },
      enabled: enabled ?? operation.enabled,
    },
  };
}
