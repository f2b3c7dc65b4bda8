import type { Clock } from '../clock.ts';
import { unwrapDataKey } from './data-key.ts';
import type { WrapSection } from './header.ts';
import { type HeldKey, holdKey } from './held-key.ts';
import { wipe } from './key-schedule.ts';
import type { OpeningLimits } from './limits.ts';
import { singleFlights } from './single-flight.ts';
import type { WrappingKey } from './wrapping-key.ts';

export interface OpeningKeys {
  /**
   * What `work` makes, at once, of the data key that lies in `wrap`; the key may be wiped as soon as
   * `work` has returned.
   * @throws AppError `corrupt` for a wrap section that is not as it was written; as
   * `WrappingKey.unwrap`; the reason of `signal`
   */
  use<T>(wrap: WrapSection, work: (dataKey: Buffer) => T, signal?: AbortSignal): Promise<T>;
  /** Wipes all keys. */
  forget(): void;
}

/** Data keys by the wrap section they came in; each is unwrapped once, however many wait for it. */
export function openingKeys(
  wrappingKey: WrappingKey,
  limits: OpeningLimits,
  clock: Clock,
): OpeningKeys {
  // In order of use: what was used longest ago is thrown out first.
  const keys = new Map<string, HeldKey>();
  let generation = 0;

  const drop = (id: string) => {
    keys.get(id)?.wipe();
    keys.delete(id);
  };
  const find = (id: string): HeldKey | null => {
    const held = keys.get(id);
    if (held === undefined) return null;
    if (!held.isYoung()) {
      drop(id);
      return null;
    }
    keys.delete(id);
    keys.set(id, held);
    return held;
  };
  const unwrap = async (id: string, wrap: WrapSection, signal: AbortSignal) => {
    const wanted = generation;
    const dataKey = await unwrapDataKey(wrappingKey, wrap, signal);
    // `forget` was called meanwhile: who waits for this key unwraps it again.
    if (wanted !== generation) return wipe(dataKey);
    drop(id);
    const [oldest] = keys.keys();
    if (keys.size >= limits.maxKeys && oldest !== undefined) drop(oldest);
    const expire = () => drop(id);
    keys.set(id, holdKey(dataKey, limits.maxAgeSeconds, { clock, expire }));
  };
  const flights = singleFlights<void>();

  return {
    async use(wrap, work, signal) {
      // By all of the section, so that what is found has been proven, tag included.
      const id = wrap.bytes.toString('latin1');
      for (;;) {
        const held = find(id);
        if (held !== null) return work(held.dataKey);
        await flights(id, (own) => unwrap(id, wrap, own), signal);
      }
    },
    forget() {
      generation++;
      for (const id of [...keys.keys()]) drop(id);
    },
  };
}
