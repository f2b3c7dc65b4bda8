import { Server } from 'node:net';

// Its overloads say nothing of arguments that are handed on.
const listen = Server.prototype.listen as (this: Server, ...args: unknown[]) => Server;

/** In streaming mode the library serves HTTP itself, on every address of the machine; here the machine is enough. */
export function listenOnLoopback(): void {
  Server.prototype.listen = function (this: Server, ...args: unknown[]): Server {
    const [first, second] = args;
    const port = typeof first === 'number' ? args.shift() : 0;
    const isAnywhere = typeof first === 'number' ? typeof second !== 'string' : isCallback(first);
    if (!isAnywhere) return listen.apply(this, typeof first === 'number' ? [port, ...args] : args);
    return listen.call(this, port, '127.0.0.1', ...args);
  };
}

function isCallback(argument: unknown): boolean {
  return argument === undefined || typeof argument === 'function';
}
