import type { HttpSettings } from './host-json.ts';

export interface Throttle {
  /** A place among the outstanding calls; `null` when all are taken. */
  enter(): Place | null;
}

interface Place {
  /** Resolves when it is this call's turn to run. */
  readonly turn: Promise<void>;
  /** Makes room; may be called more than once. */
  leave(): void;
}

/** maxOutstandingRequests and maxConcurrentRequests of host.json. Source: azure-functions-host, HttpThrottleMiddleware. */
export function createThrottle({
  maxOutstandingRequests,
  maxConcurrentRequests,
}: Pick<HttpSettings, 'maxOutstandingRequests' | 'maxConcurrentRequests'>): Throttle {
  const most = maxOutstandingRequests > 0 ? maxOutstandingRequests : Infinity;
  const mostRunning = maxConcurrentRequests > 0 ? maxConcurrentRequests : Infinity;
  const waiting: (() => void)[] = [];
  let running = 0;

  const leave = () => {
    const next = waiting.shift();
    if (next === undefined) running -= 1;
    else next();
  };
  const takeTurn = (): Promise<void> => {
    if (running >= mostRunning) return new Promise((resolve) => waiting.push(resolve));
    running += 1;
    return Promise.resolve();
  };
  return {
    enter() {
      if (running + waiting.length >= most) return null;
      let isOut = false;
      return {
        turn: takeTurn(),
        leave() {
          if (!isOut) leave();
          isOut = true;
        },
      };
    },
  };
}
