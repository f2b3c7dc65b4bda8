/**
 * Milliseconds of a .NET TimeSpan text: `[d.]hh:mm[:ss[.fff]]`; `null` when the text is not one.
 * Minutes and seconds above 59 and hours above 23 are refused, as .NET refuses them.
 */
export function parseTimeSpan(text: string): number | null {
  const match = /^(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$/.exec(
    text.trim(),
  );
  if (match === null) return null;
  const [days, hours, minutes, seconds] = [match[1], match[2], match[3], match[4]].map((part) =>
    Number(part ?? 0),
  ) as [number, number, number, number];
  if (hours > 23 || minutes > 59 || seconds > 59) return null;
  const fraction = match[5] === undefined ? 0 : Number(`0.${match[5]}`);
  return Math.round((((days * 24 + hours) * 60 + minutes) * 60 + seconds + fraction) * 1000);
}

// setTimeout turns anything above 2^31-1 ms into 1 ms, so long waits are chained.
const longestTimerMs = 86_400_000;

/** Resolves after `ms`, or at once when `signal` aborts. Never rejects; any length is allowed. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const end = Date.now() + ms;
  while (!signal.aborted) {
    const left = end - Date.now();
    if (left <= 0) return;
    await pauseOnce(Math.min(left, longestTimerMs), signal);
  }
}

function pauseOnce(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(1, ms));
    signal.addEventListener('abort', done);
  });
}
