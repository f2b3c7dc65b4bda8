import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto';

// AES as JSON Web Algorithms and PKCS #11 name its modes. What cannot be done throws.

export type Sealed = { readonly value: Buffer; readonly iv: Buffer; readonly tag: Buffer };
type WrapMode = 'wrap' | 'wrap-pad';

const gcmNonceBytes = 12;
const gcmTagBytes = 16;
/** Fixed by RFC 3394 and RFC 5649. */
const wrapIv: Readonly<Record<WrapMode, Buffer>> = {
  wrap: Buffer.from('a6a6a6a6a6a6a6a6', 'hex'),
  'wrap-pad': Buffer.from('a65959a6', 'hex'),
};

export function encryptGcm(key: KeyObject, content: Buffer, aad: Buffer): Sealed {
  const iv = randomBytes(gcmNonceBytes);
  const cipher = createCipheriv(`aes-${bits(key)}-gcm` as 'aes-256-gcm', key, iv).setAAD(aad);
  const value = Buffer.concat([cipher.update(content), cipher.final()]);
  return { value, iv, tag: cipher.getAuthTag() };
}

export function decryptGcm(key: KeyObject, { value, iv, tag }: Sealed, aad: Buffer): Buffer {
  const decipher = createDecipheriv(`aes-${bits(key)}-gcm` as 'aes-256-gcm', key, iv, {
    authTagLength: gcmTagBytes,
  });
  decipher.setAAD(aad).setAuthTag(tag);
  return Buffer.concat([decipher.update(value), decipher.final()]);
}

export function encryptCbc(key: KeyObject, content: Buffer, iv: Buffer, isPadded: boolean): Buffer {
  const cipher = createCipheriv(`aes-${bits(key)}-cbc`, key, iv).setAutoPadding(isPadded);
  return Buffer.concat([cipher.update(content), cipher.final()]);
}

export function decryptCbc(key: KeyObject, content: Buffer, iv: Buffer, isPadded: boolean): Buffer {
  const decipher = createDecipheriv(`aes-${bits(key)}-cbc`, key, iv).setAutoPadding(isPadded);
  return Buffer.concat([decipher.update(content), decipher.final()]);
}

/** RFC 3394, or RFC 5649 with padding. */
export function wrapAes(key: KeyObject, content: Buffer, mode: WrapMode): Buffer {
  // OpenSSL takes less, which RFC 3394 does not define.
  if (mode === 'wrap' && content.length < 16) throw new Error('too short to be wrapped');
  const cipher = createCipheriv(`id-aes${bits(key)}-${mode}`, key, wrapIv[mode]);
  return Buffer.concat([cipher.update(content), cipher.final()]);
}

export function unwrapAes(key: KeyObject, content: Buffer, mode: WrapMode): Buffer {
  if (mode === 'wrap' && content.length < 24) throw new Error('too short to be unwrapped');
  const decipher = createDecipheriv(`id-aes${bits(key)}-${mode}`, key, wrapIv[mode]);
  return Buffer.concat([decipher.update(content), decipher.final()]);
}

function bits(key: KeyObject): number {
  return (key.symmetricKeySize ?? 0) * 8;
}
