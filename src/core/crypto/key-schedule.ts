/**
 * What is derived from a data key: by the one-step function of NIST SP 800-56C rev. 2, SHA-512.
 * HKDF would do as well, but takes node:crypto 6 µs or more, and this takes 1, of the 18 in which
 * 64 KiB are sealed.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { wrapTagBytes } from './header.ts';

export const dataKeyBytes = 32;
/** AES-256. */
const cipherKeyBytes = 32;

/** The key of one message and the commitment to it: 64 bytes, to be wiped as a whole. */
export type MessageKey = Buffer;

/** For AES-256-GCM. */
export function cipherKeyOf(messageKey: MessageKey): Buffer {
  return messageKey.subarray(0, cipherKeyBytes);
}

/** Stands in the header: 32 bytes that no other data key, header or associated data gives. */
export function commitmentOf(messageKey: MessageKey): Buffer {
  return messageKey.subarray(cipherKeyBytes);
}

/**
 * The key of the message whose header begins with `prelude`. The salt in the prelude makes it
 * another for each message, so that each can number its frames from 0.
 */
export function messageKeyOf(
  dataKey: Uint8Array,
  prelude: Uint8Array,
  associatedData: Uint8Array,
): MessageKey {
  // Before the associated data everything has its length, so that no two inputs read the same.
  return derive(dataKey, label.message, prelude, associatedData);
}

/**
 * Proves that who wrote the wrap section has the data key that lies in it. Says nothing about a
 * message, so that it is computed once per data key.
 */
export function wrapTagOf(dataKey: Uint8Array, tagged: Uint8Array): Buffer {
  return derive(dataKey, label.wrap, tagged).subarray(0, wrapTagBytes);
}

/** Neither is the beginning of the other. */
const label = { message: Buffer.from('message'), wrap: Buffer.from('wrap') } as const;
/** The output's first block is all that is needed. */
const counter = Buffer.from([0, 0, 0, 1]);
/** Blank between two uses. Memory of its own: what small buffers share would keep the data key. */
const scratch = Buffer.alloc(1024);
const none = new Uint8Array();

/**
 * 64 bytes, of which at most 32 are ever shown. That is why it needs no HMAC around it: nobody has
 * the whole state from which SHA-512 would go on.
 */
function derive(
  dataKey: Uint8Array,
  name: Buffer,
  context: Uint8Array,
  more: Uint8Array = none,
): Buffer {
  const nameAt = counter.length + dataKey.length;
  const contextAt = nameAt + name.length;
  const moreAt = contextAt + context.length;
  const length = moreAt + more.length;
  const input = length <= scratch.length ? scratch.subarray(0, length) : Buffer.alloc(length);
  input.set(counter);
  input.set(dataKey, counter.length);
  input.set(name, nameAt);
  input.set(context, contextAt);
  input.set(more, moreAt);
  const derived = hash('sha512', input, 'buffer');
  wipe(input);
  return derived;
}

/** Compares in constant time. */
export function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}
