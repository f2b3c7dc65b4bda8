import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import type { SecretString } from '../../secret-string.ts';

const iterations = 4096;

/**
 * The SCRAM-SHA-256 verifier PostgreSQL stores for `password`. Sent instead of the password, it
 * keeps the clear text out of server logs and pg_stat_activity.
 *
 * @param salt 16 random bytes; given only by tests
 * Source: RFC 5802 and 7677; PostgreSQL `pg_authid.rolpassword`.
 */
export async function scramVerifier(
  password: SecretString,
  salt: Buffer = randomBytes(16),
): Promise<string> {
  const text = prepare(password.expose());
  const salted = await promisify(pbkdf2)(text, salt, iterations, 32, 'sha256');
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  const serverKey = hmac(salted, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** RFC 3454 tables C.1.2 (spaces) and B.1 (mapped to nothing), which SASLprep (RFC 4013) applies. */
const spaces = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/gu;
const marks = /\u00AD|\u034F|\u1806|[\u180B-\u180D]|\u200C|\u200D|\u2060|[\uFE00-\uFE0F]|\uFEFF/gu;

function prepare(password: string): string {
  return password.replace(spaces, ' ').replace(marks, '').normalize('NFKC');
}
