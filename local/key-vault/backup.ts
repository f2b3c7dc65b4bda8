import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { errors } from './errors.ts';
import type { ObjectType, Stored } from './store.ts';
import type { Vault } from './vault.ts';

type Content = {
  readonly type: ObjectType;
  readonly subscriptionId: string;
  readonly geography: string;
  readonly objects: readonly Stored[];
};

const format = 1;
const tagBytes = 16;
const nonceBytes = 12;
// Every emulator can restore what another one saved; opaque to clients, and no secret.
const key = createHash('sha256').update('key vault emulator backup').digest();

/** An opaque blob, base64url, of an object with all its versions (and of what belongs to it). */
export function seal(vault: Vault, type: ObjectType, objects: readonly Stored[]): string {
  const { subscriptionId, geography } = vault;
  const content: Content = { type, subscriptionId, geography, objects };
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.of(format));
  const sealed = [cipher.update(JSON.stringify(content), 'utf8'), cipher.final()];
  return Buffer.concat([Buffer.of(format), nonce, ...sealed, cipher.getAuthTag()]).toString(
    'base64url',
  );
}

/** @throws VaultError 400 for what is no backup of that type, or not to be restored here */
export function unseal(vault: Vault, type: ObjectType, blob: string): readonly Stored[] {
  const content = decrypt(Buffer.from(blob, 'base64url'));
  if (content.type !== type) throw errors.malformedBackup();
  const isSamePlace =
    content.subscriptionId === vault.subscriptionId && content.geography === vault.geography;
  if (!isSamePlace) throw errors.foreignBackup();
  return content.objects;
}

function decrypt(blob: Buffer): Content {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, blob.subarray(1, 1 + nonceBytes), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(blob.subarray(0, 1)).setAuthTag(blob.subarray(-tagBytes));
    const json = decipher.update(blob.subarray(1 + nonceBytes, -tagBytes), undefined, 'utf8');
    // Authenticated: only an emulator can have written it.
    return JSON.parse(json + decipher.final('utf8')) as Content;
  } catch {
    throw errors.malformedBackup();
  }
}
