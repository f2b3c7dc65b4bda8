import type { Clock } from '../clock.ts';
import { wipe } from './key-schedule.ts';

/** A data key in memory for a time. */
export interface HeldKey {
  readonly dataKey: Buffer;
  /** False once it is too old, and when the clock has been set to before it was made. */
  isYoung(): boolean;
  wipe(): void;
}

/** Holds `dataKey` until it is `maxAgeSeconds` old; then `expire` is called, also when nobody asks. */
export function holdKey(
  dataKey: Buffer,
  maxAgeSeconds: number,
  { clock, expire }: { readonly clock: Clock; readonly expire: () => void },
): HeldKey {
  const madeAt = clock.now().getTime();
  const timer = setTimeout(expire, maxAgeSeconds * 1000).unref();
  return {
    dataKey,
    isYoung() {
      const age = clock.now().getTime() - madeAt;
      return age >= 0 && age < maxAgeSeconds * 1000;
    },
    wipe() {
      clearTimeout(timer);
      wipe(dataKey);
    },
  };
}
