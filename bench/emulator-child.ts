import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Wish } from './emulator-server.ts';

/** A process that performs wishes one after the other. */
export interface Child {
  ask<T>(wish: Wish): Promise<T>;
  stop(): void;
}

export function startChild(execArgv: readonly string[] = []): Child {
  const child: ChildProcess = fork(new URL('./emulator-server.ts', import.meta.url), [], {
    execArgv: [...execArgv],
  });
  const exited = once(child, 'exit');
  return {
    ask: async <T>(wish: Wish) => {
      child.send(wish);
      const ended = exited.then((): never => {
        throw new Error(`the process that was to perform "${wish.kind}" has ended`);
      });
      const [answer] = await Promise.race([once(child, 'message'), ended]);
      return answer as T;
    },
    stop: () => {
      if (child.connected) child.disconnect();
    },
  };
}
