import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
const ivBytes = 12;
const tagBytes = 16;

/** Seals text for as long as this process lives; what it has sealed is bound to a context, such as its key. */
export interface MemoryCipher {
  /** A buffer of its own, which may be wiped. */
  seal(text: string, context: string): Buffer;
  /** @throws Error when `sealed` was changed, or sealed for another context */
  open(sealed: Buffer, context: string): string;
}

/** AES-256-GCM under a key that is made here and never leaves: a heap dump or a swapped page shows no value. */
export function createMemoryCipher(): MemoryCipher {
  const key = createSecretKey(randomBytes(32));
  // Counted, not drawn: under one key no initialisation vector may come twice.
  let count = 0n;
  return {
    seal: (text, context) => {
      const iv = Buffer.alloc(ivBytes);
      iv.writeBigUInt64BE(++count, ivBytes - 8);
      const cipher = createCipheriv(algorithm, key, iv).setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return Buffer.concat([iv, cipher.getAuthTag(), body]);
    },
    open: (sealed, context) => {
      const iv = sealed.subarray(0, ivBytes);
      const tag = sealed.subarray(ivBytes, ivBytes + tagBytes);
      const decipher = createDecipheriv(algorithm, key, iv, { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(context)).setAuthTag(tag);
      const body = decipher.update(sealed.subarray(ivBytes + tagBytes));
      return Buffer.concat([body, decipher.final()]).toString('utf8');
    },
  };
}
