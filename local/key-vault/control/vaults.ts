import { z } from 'zod';
import { findEventKind, policyChanged } from '../events.ts';
import { findVersion } from '../store.ts';
import { SwitchChanges, switchesOf } from '../switches.ts';
import { storeOf, type Vault } from '../vault.ts';
import { parseControlBody } from './body.ts';
import {
  type ControlCall,
  ControlError,
  type ControlPlane,
  type ControlReply,
  type ControlRoute,
  vaultNamed,
} from './plane.ts';

export const vaultRoutes: readonly ControlRoute[] = [
  ['GET', /^\/vaults\/([^/]+)\/switches$/, getSwitches],
  ['PATCH', /^\/vaults\/([^/]+)\/switches$/, patchSwitches],
  ['PUT', /^\/vaults\/([^/]+)\/mode$/, setMode],
  ['POST', /^\/vaults\/([^/]+)\/events\/republish$/, republish],
];

const Mode = z.strictObject({ readOnly: z.boolean() });
const Republish = z.strictObject({
  type: z.string(),
  name: z.string().default(''),
  version: z.string().default(''),
});

function getSwitches({ plane, params: [name] }: ControlCall): ControlReply {
  return { status: 200, body: switchesOf(vaultNamed(plane, name)) };
}

function patchSwitches({ plane, params: [name], body }: ControlCall): ControlReply {
  const vault = vaultNamed(plane, name);
  changeSwitches(plane, vault, parseControlBody(SwitchChanges, body));
  return { status: 200, body: switchesOf(vault) };
}

function setMode({ plane, params: [name], body }: ControlCall): ControlReply {
  const vault = vaultNamed(plane, name);
  const mode = parseControlBody(Mode, body);
  changeSwitches(plane, vault, mode);
  return { status: 200, body: mode };
}

/** Changing the permission model is what the service tells of; role assignments are not the vault's. */
export function changeSwitches(plane: ControlPlane, vault: Vault, changes: SwitchChanges): void {
  const wasEnforced = vault.access.enforced;
  Object.assign(vault, changes);
  if (vault.access.enforced !== wasEnforced) plane.events.sendPolicyChanged(vault);
  if (changes.issuance !== undefined) reconsiderPending(plane, vault);
}

/** What is being issued may be ready, or refused, sooner or later than before. */
function reconsiderPending({ service }: ControlPlane, vault: Vault): void {
  for (const object of [...vault.certificates.list()]) {
    if (object.pending?.status === 'inProgress')
      service.changed(vault, { type: 'Certificate', object });
  }
}

function republish({ plane, params: [vaultName], body }: ControlCall): ControlReply {
  const vault = vaultNamed(plane, vaultName);
  const { type, name, version: versionId } = parseControlBody(Republish, body);
  if (type.replace(/^Microsoft\.KeyVault\./, '') === policyChanged) {
    return { status: 200, body: plane.events.sendPolicyChanged(vault) };
  }
  const named = findEventKind(type);
  if (named === null) throw new ControlError(400, `There is no event type ${type}.`);
  const object = storeOf(vault, named.type).find(name);
  const version = object === null ? null : findVersion(object, versionId);
  if (object === null || version === null) {
    throw new ControlError(404, `There is no ${name} with that version in vault ${vaultName}.`);
  }
  const event = plane.events.sendAgain(named.kind, { vault, type: named.type, object, version });
  return { status: 200, body: event };
}
