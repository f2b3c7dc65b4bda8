import { randomFillSync } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { keyMemory, wrapDataKey } from './data-key.ts';
import { headerTemplate, type WrapSection } from './header.ts';
import { type HeldKey, holdKey } from './held-key.ts';
import { wipe } from './key-schedule.ts';
import { checkMessageLength, type EnvelopeLimits } from './limits.ts';
import { singleFlights } from './single-flight.ts';
import type { WrappingKey } from './wrapping-key.ts';

export interface SealingKey {
  readonly dataKey: Buffer;
  /** As `headerTemplate` gives it. */
  readonly template: Buffer;
  /** Counts plaintext that nobody knew of when its message began. */
  count(bytes: number): void;
}

export interface SealingKeys {
  /**
   * What `work` makes, at once, of a data key under which one more message may be sealed; the key
   * may be wiped as soon as `work` has returned.
   * @param bytes how much plaintext the message is known to have
   * @throws AppError `invalid_input` for too many; as `WrappingKey.wrap`; the reason of `signal`
   */
  use<T>(bytes: number, work: (key: SealingKey) => T, signal?: AbortSignal): Promise<T>;
  /** Wipes the data key; the next message is sealed under a new one. */
  forget(): void;
}

interface Current extends SealingKey {
  readonly held: HeldKey;
  messages: number;
  bytes: number;
}

/** One data key at a time, drawn at random and wrapped once, however many wait for it. */
export function sealingKeys(
  wrappingKey: WrappingKey,
  { sealing: limits, frameBytes, maxMessageBytes }: EnvelopeLimits,
  clock: Clock,
): SealingKeys {
  let current: Current | null = null;
  let generation = 0;

  const drop = () => {
    current?.held.wipe();
    current = null;
  };
  const make = async (signal: AbortSignal) => {
    const wanted = generation;
    const { dataKey, wrap } = await newDataKey(wrappingKey, signal);
    // `forget` was called meanwhile: who waits for this key makes another.
    if (wanted !== generation) return wipe(dataKey);
    drop();
    const held = holdKey(dataKey, limits.maxAgeSeconds, { clock, expire: drop });
    const template = headerTemplate(frameBytes, wrap.bytes);
    const key: Current = {
      ...{ held, dataKey, template, messages: 0, bytes: 0 },
      count: (bytes) => {
        key.bytes += bytes;
      },
    };
    current = key;
  };
  const take = (bytes: number): Current | null => {
    const key = current;
    if (key === null || !key.held.isYoung() || key.messages >= limits.maxMessages) return null;
    if (key.messages > 0 && key.bytes + bytes > limits.maxBytes) return null;
    key.messages++;
    key.bytes += bytes;
    return key;
  };
  const flights = singleFlights<void>();

  return {
    async use(bytes, work, signal) {
      checkMessageLength(bytes, maxMessageBytes);
      for (;;) {
        const key = take(bytes);
        if (key !== null) return work(key);
        drop();
        await flights('data key', make, signal);
      }
    },
    forget() {
      generation++;
      drop();
    },
  };
}

async function newDataKey(
  wrappingKey: WrappingKey,
  signal: AbortSignal,
): Promise<{ dataKey: Buffer; wrap: WrapSection }> {
  const dataKey = randomFillSync(keyMemory());
  try {
    return { dataKey, wrap: await wrapDataKey(wrappingKey, dataKey, signal) };
  } catch (error) {
    wipe(dataKey);
    throw error;
  }
}
