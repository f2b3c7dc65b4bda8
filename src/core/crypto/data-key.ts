/** Data keys on their way into headers and out of them. */
import { AppError, hasCode, toAppError } from '../errors.ts';
import { damaged, encodeWrapSection, type WrapSection } from './header.ts';
import { dataKeyBytes, isSame, wipe, wrapTagOf } from './key-schedule.ts';
import type { WrappingKey } from './wrapping-key.ts';

/**
 * Memory for a data key: of its own, and not on the heap of the garbage collector, which moves
 * small arrays and leaves copies where they were. Only so does wiping wipe.
 */
export function keyMemory(): Buffer {
  return Buffer.from(new ArrayBuffer(dataKeyBytes));
}

/**
 * `dataKey` as headers carry it, under the newest version of `wrappingKey`.
 * @throws AppError as `WrappingKey.wrap`; `internal` when that gives what no header can hold
 */
export async function wrapDataKey(
  wrappingKey: WrappingKey,
  dataKey: Buffer,
  signal?: AbortSignal,
): Promise<WrapSection> {
  // Lent: whatever becomes of it there, the key that seals is the one that was wrapped.
  const lent = keyMemory();
  lent.set(dataKey);
  try {
    const key = await wrappingKey.wrap(lent, signal);
    return encodeWrapSection(key, (tagged) => wrapTagOf(dataKey, tagged));
  } catch (error) {
    throw toAppError(error, 'wrap a data key');
  } finally {
    wipe(lent);
  }
}

/**
 * The data key of `wrap`, proven to be the one the section was written with; the caller wipes it.
 * @throws AppError `corrupt`; as `WrappingKey.unwrap`
 */
export async function unwrapDataKey(
  wrappingKey: WrappingKey,
  { key, tagged, tag }: WrapSection,
  signal?: AbortSignal,
): Promise<Buffer> {
  let unwrapped: Uint8Array;
  try {
    unwrapped = await wrappingKey.unwrap(key, signal);
  } catch (error) {
    throw toAppError(error, `unwrap a data key with ${key.keyId}`);
  }
  const dataKey = keyMemory();
  dataKey.set(unwrapped.subarray(0, dataKeyBytes));
  const isWhole = unwrapped.length === dataKeyBytes;
  wipe(unwrapped);
  if (isWhole && isSame(wrapTagOf(dataKey, tagged), tag)) return dataKey;
  wipe(dataKey);
  throw damaged('the wrap section is not what was written');
}

/**
 * The data key of `wrap` under the newest version of `wrappingKey`, and unwrapped from there again:
 * the old version may be destroyed once all headers are rewrapped.
 * @throws AppError `corrupt` when `wrap` is not what was written; `internal` when the new one does
 * not unwrap; as `WrappingKey`
 */
export async function rewrapDataKey(
  wrappingKey: WrappingKey,
  wrap: WrapSection,
  signal?: AbortSignal,
): Promise<WrapSection> {
  const dataKey = await unwrapDataKey(wrappingKey, wrap, signal);
  try {
    const fresh = await wrapDataKey(wrappingKey, dataKey, signal);
    wipe(await unwrapFresh(wrappingKey, fresh, signal));
    return fresh;
  } finally {
    wipe(dataKey);
  }
}

async function unwrapFresh(
  wrappingKey: WrappingKey,
  fresh: WrapSection,
  signal?: AbortSignal,
): Promise<Buffer> {
  try {
    return await unwrapDataKey(wrappingKey, fresh, signal);
  } catch (cause) {
    if (!hasCode(cause, 'corrupt')) throw cause;
    const detail = `${fresh.key.keyId} does not unwrap what it wrapped a moment ago`;
    throw new AppError('internal', { detail, cause });
  }
}
