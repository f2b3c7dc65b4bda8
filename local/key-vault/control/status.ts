import { objectTypes } from '../store.ts';
import { switchesOf } from '../switches.ts';
import { storeOf, type Vault } from '../vault.ts';
import type { ControlPlane, ControlReply, ControlRoute } from './plane.ts';
import { changeSwitches } from './vaults.ts';

export const statusRoutes: readonly ControlRoute[] = [
  ['GET', /^\/status$/, ({ plane }) => getStatus(plane)],
  ['POST', /^\/reset$/, ({ plane }) => reset(plane)],
];

function getStatus(plane: ControlPlane): ControlReply {
  const { service, clock, startedAt } = plane;
  const now = clock.now();
  return {
    status: 200,
    body: {
      startedAt: startedAt.toISOString(),
      clock: { now: new Date(now).toISOString(), offsetMs: now - Date.now() },
      vaults: plane.vaults.map((vault) => vaultStatus(plane, vault)),
      challenge: service.challenges.style,
      revocations: service.revocations.list().length,
      faults: service.faults.list().length,
      calls: service.audit.size,
    },
  };
}

function vaultStatus({ clock, httpUrls }: ControlPlane, vault: Vault): Record<string, unknown> {
  const now = Math.floor(clock.now() / 1000);
  const counts = objectTypes.map((type) => {
    const store = storeOf(vault, type);
    return [type, { live: store.size, deleted: [...store.listDeleted(now)].length }];
  });
  const httpUrl = httpUrls.get(vault.name);
  return {
    name: vault.name,
    url: vault.publicUrl,
    ...(httpUrl === undefined ? {} : { httpUrl }),
    mode: vault.readOnly ? 'read-only' : 'read-write',
    retentionDays: vault.retentionDays,
    purgeProtection: vault.purgeProtection,
    objects: Object.fromEntries(counts),
    switches: switchesOf(vault),
  };
}

/** Everything is as it was at the start, but for what the vaults hold and what was logged. */
async function reset(plane: ControlPlane): Promise<ControlReply> {
  const { service, clock } = plane;
  service.faults.clear();
  service.revocations.clear();
  service.throttle.clear();
  service.challenges.style = 'resource';
  for (const vault of plane.vaults) {
    changeSwitches(plane, vault, plane.initialSwitches(vault));
    for (const type of objectTypes) storeOf(vault, type).settle();
  }
  await clock.set(Date.now());
  return getStatus(plane);
}
