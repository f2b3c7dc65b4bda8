import type { IncomingMessage, ServerResponse } from 'node:http';
import { isLoopbackHost, readJson } from '../../loopback-http.ts';
import { auditRoutes } from './audit.ts';
import { clockRoutes } from './clock.ts';
import { faultRoutes } from './faults.ts';
import { ControlError, type ControlPlane, type ControlReply, type ControlRoute } from './plane.ts';
import { stateRoutes } from './state.ts';
import { statusRoutes } from './status.ts';
import { tokenRoutes } from './tokens.ts';
import { vaultRoutes } from './vaults.ts';

/**
 * The control API: plain http, JSON, no token, loopback only. `docs/emulator.md` has the table of its calls. Only the
 * state shows what secrets hold.
 */
const routes: readonly ControlRoute[] = [
  ...statusRoutes,
  ...vaultRoutes,
  ...faultRoutes,
  ...tokenRoutes,
  ...clockRoutes,
  ...auditRoutes,
  ...stateRoutes,
];

const maxBodyBytes = 1024 * 1024;
// A state holds everything: a hundred thousand secrets are 30 MB.
const maxStateBytes = 1024 * maxBodyBytes;

export async function respondToControl(
  plane: ControlPlane,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { status, body } = await answer(plane, request).catch(refuse);
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

async function answer(plane: ControlPlane, request: IncomingMessage): Promise<ControlReply> {
  if (!isLoopbackHost(request.headers.host)) {
    throw new ControlError(403, 'Only loopback hosts are answered.');
  }
  const [path = '', search = ''] = (request.url ?? '/').split('?');
  for (const [method, pattern, run] of routes) {
    const match = method === request.method ? pattern.exec(path) : null;
    if (match === null) continue;
    const body = await readJson(request, path === '/state' ? maxStateBytes : maxBodyBytes);
    return run({ plane, params: match.slice(1), query: new URLSearchParams(search), body });
  }
  throw new ControlError(404, `There is no ${request.method} ${path}; see docs/emulator.md.`);
}

function refuse(error: unknown): ControlReply {
  if (error instanceof ControlError) {
    return { status: error.status, body: { error: { message: error.message } } };
  }
  console.error('key-vault: the control API failed', error);
  const message = 'The emulator failed; its output says why.';
  return { status: 500, body: { error: { message } } };
}
