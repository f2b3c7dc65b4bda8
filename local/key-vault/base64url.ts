import { errors } from './errors.ts';

/** @throws VaultError 400 for what is missing, empty or not base64url without padding */
export function base64urlToBytes(property: string, text: unknown): Buffer {
  if (text === undefined || text === null || text === '') throw errors.requiredProperty(property);
  const isBase64url = typeof text === 'string' && /^[\w-]+$/.test(text) && text.length % 4 !== 1;
  if (!isBase64url) throw errors.notBase64url(property);
  return Buffer.from(text, 'base64url');
}
