import { randomBytes } from 'node:crypto';

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** A ULID: 10 characters of time in ms, 16 random ones; sorts by time, unguessable. */
export function ulid(now: Date): string {
  let time = '';
  for (let rest = now.getTime(), i = 0; i < 10; i++, rest = Math.floor(rest / 32)) {
    time = alphabet.charAt(rest % 32) + time;
  }
  return time + Array.from(randomBytes(16), (byte) => alphabet.charAt(byte % 32)).join('');
}

export const ulidPattern = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
