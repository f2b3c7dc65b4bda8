import { generateMaterial, type KeyMaterial, specOf } from './key-material.ts';
import {
  defaultNotify,
  expiryOfRotated,
  type RotationPolicy,
  rotationPolicyFrom,
} from './key-rotation-policy.ts';
import { type Key, type KeyVersion, keyKind } from './keys.ts';
import { idOf, mustBeOwn, targetOf } from './kind.ts';
import type { Answer, Call, Operation } from './operation.ts';
import { currentVersion, newVersionId } from './store.ts';

export const keyRotationOperations: readonly Operation[] = [
  {
    id: 'rotateKey',
    action: 'keys/rotate/action',
    serviceName: 'KeyRotate',
    method: 'POST',
    template: '/keys/{name}/rotate',
    effect: 'write',
    run: rotate,
  },
  {
    id: 'getKeyRotationPolicy',
    action: 'keyrotationpolicies/read',
    serviceName: 'KeyRotationPolicyGet',
    method: 'GET',
    template: '/keys/{name}/rotationpolicy',
    effect: 'read',
    run: getPolicy,
  },
  {
    id: 'updateKeyRotationPolicy',
    action: 'keyrotationpolicies/write',
    serviceName: 'KeyRotationPolicySet',
    method: 'PUT',
    template: '/keys/{name}/rotationpolicy',
    effect: 'write',
    run: setPolicy,
  },
];

/** The version that takes the place of the key's current one: new material, alike in everything that lasts. */
export function rotatedVersion(key: Key, material: KeyMaterial, now: number): KeyVersion {
  const { keyOps, tags, exportable, releasePolicy } = currentVersion(key);
  const exp = expiryOfRotated(key.rotationPolicy, now);
  return {
    version: newVersionId(),
    material,
    keyOps,
    enabled: true,
    created: now,
    updated: now,
    ...(exp === null ? {} : { exp }),
    ...(tags === undefined ? {} : { tags }),
    ...(exportable === undefined ? {} : { exportable }),
    ...(releasePolicy === undefined ? {} : { releasePolicy }),
  };
}

async function rotate(call: Call): Promise<Answer> {
  const { vault, now } = call;
  const { material: earlier } = currentVersion(ownKey(call, 'rotate'));
  const material = await generateMaterial(specOf(earlier));
  // While it was made the key may have been deleted, or become a certificate's.
  const key = ownKey(call, 'rotate');
  const version = rotatedVersion(key, material, now);
  key.versions.push(version);
  call.changed({ type: 'Key', object: key, event: 'new-version' });
  return { body: keyKind.bundle(vault, key, version), version: version.version };
}

function getPolicy(call: Call): Answer {
  const { object: key } = targetOf(keyKind, call);
  if (key.rotationPolicy !== undefined) return describePolicy(call, key, key.rotationPolicy);
  return { body: { lifetimeActions: [defaultNotify], attributes: null } };
}

function setPolicy(call: Call): Answer {
  const key = ownKey(call, 'update');
  const policy = rotationPolicyFrom(call.body, key.rotationPolicy, call.now);
  key.rotationPolicy = policy;
  call.changed({ type: 'Key', object: key });
  return describePolicy(call, key, policy);
}

function describePolicy({ vault }: Call, { name }: Key, policy: RotationPolicy): Answer {
  const { lifetimeActions, expiryTime, created, updated } = policy;
  const expiry = expiryTime === undefined ? {} : { expiryTime };
  return {
    body: {
      id: `${idOf(vault, keyKind, name)}/rotationpolicy`,
      lifetimeActions,
      attributes: { ...expiry, created, updated },
    },
  };
}

/** @throws VaultError 404, or 403 for a certificate's key */
function ownKey(call: Call, operation: string): Key {
  const { object } = targetOf(keyKind, call);
  mustBeOwn('Key', object, operation);
  return object;
}
