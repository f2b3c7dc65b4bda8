import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { AppError, hasCode } from '../../src/core/errors.ts';
import {
  type AnyHandler,
  defineHandler,
  type Fence,
  type HandlerContext,
} from '../../src/core/rotation/handler.ts';
import type { Credential } from '../../src/core/rotation/value.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import type { Address } from './cutting-proxy.ts';
import type { FreshLogin, TestTarget } from './fixture.ts';

const Settings = z.strictObject({ host: z.string(), port: z.int(), login: z.string() });
type Settings = z.output<typeof Settings>;

/** One connection carries one request, a line of JSON, and one answer, a word. */
const Request = z.object({
  login: z.string(),
  password: z.string(),
  /** Sets it, as the admin. */
  admin: z.string().optional(),
  deadline: z.number().optional(),
});
type Request = z.output<typeof Request>;

type Answer = 'yes' | 'no' | 'late' | 'forbidden' | 'unknown';

const answerMs = 1200;
const wireMs = 20;

/** What makes a fake handler a broken one; the sound one has none of them. */
export type Breakage =
  | 'apply refuses what is in force already'
  | 'verify says false when it cannot know'
  | 'fence ignored'
  | 'deadline ignored'
  | 'password in the error'
  | 'password as base64 in the error'
  | 'waits for ever'
  | 'preflight asks nothing'
  | 'host as written';

/** A handler for `startFakeTarget`, broken as `breakage` says. */
export function fakeHandler(breakage: Breakage | null): AnyHandler {
  const is = (one: Breakage) => one === breakage;
  const ask = (settings: Settings, request: Request) =>
    sendRequest(settings, request, is('waits for ever') ? null : answerMs);
  const leaked = (request: Request) => {
    const line = JSON.stringify(request);
    if (is('password in the error')) return line;
    return is('password as base64 in the error') ? Buffer.from(line).toString('base64') : 'refused';
  };
  const set = async (
    { settings, admin }: HandlerContext<Settings>,
    { password }: Credential,
    fence: Fence,
  ) => {
    const leaseMs = is('fence ignored') ? 60_000 : await fence.hold();
    const deadline = is('deadline ignored') ? {} : { deadline: Date.now() + leaseMs - wireMs };
    if (!is('fence ignored')) fence.guard();
    const given = { login: settings.login, password: password.expose() };
    const request = { ...given, ...deadline, admin: (await admin()).password.expose() };
    const answer = await ask(settings, request);
    if (answer === 'late') throw new AppError('lease_lost', { detail: 'the target says so' });
    if (answer === 'yes') return;
    throw new AppError('target_refused', { detail: answer, cause: new Error(leaked(request)) });
  };
  return defineHandler<Settings>({
    id: 'fake',
    credentialClass: 'chosen',
    targetSettings: Settings,
    check: () => [],
    overlap: () => 'none',
    resources: ({ host, port, login }) => [
      `fake/${is('host as written') ? host : host.toLowerCase()}/${port}/${login}`,
    ],
    nextLogin: () => null,
    async preflight({ settings, admin }) {
      if (is('preflight asks nothing')) return;
      const { login } = settings;
      const request = {
        login,
        password: '',
        admin: (await admin()).password.expose(),
        deadline: 0,
      };
      const answer = await ask(settings, request);
      if (answer !== 'late') throw new AppError('target_refused', { detail: answer });
    },
    async apply(context, candidate, fence) {
      const { settings } = context;
      const request = { login: settings.login, password: candidate.password.expose() };
      if (
        is('apply refuses what is in force already') &&
        (await ask(settings, request)) === 'yes'
      ) {
        throw new AppError('target_refused', { detail: 'is in force already' });
      }
      await set(context, candidate, fence);
    },
    async verify({ settings }, { password }) {
      const request = { login: settings.login, password: password.expose() };
      try {
        return (await ask(settings, request)) === 'yes';
      } catch (error) {
        if (is('verify says false when it cannot know') && hasCode(error, 'target_unreachable')) {
          return false;
        }
        throw error;
      }
    },
    async retire(context, login, fence) {
      const password = new SecretString(randomBytes(32).toString('base64url'));
      await set(context, { username: login, password }, fence);
    },
    restore: set,
  });
}

/** A target in this process: a table of logins behind a TCP port. */
export async function startFakeTarget(): Promise<TestTarget> {
  const passwords = new Map<string, string>();
  const admin = newCredential();
  const answer = (request: Request): Answer => {
    const current = passwords.get(request.login);
    if (request.admin === undefined) return current === request.password ? 'yes' : 'no';
    if (request.admin !== admin.password.expose()) return 'forbidden';
    if (current === undefined) return 'unknown';
    if (request.deadline !== undefined && Date.now() > request.deadline) return 'late';
    passwords.set(request.login, request.password);
    return 'yes';
  };
  const server = createServer((socket) => {
    let received = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      received += chunk.toString();
      if (received.endsWith('\n')) socket.end(answer(Request.parse(JSON.parse(received))));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const freshLogin = async () => makeLogin(passwords);
  return {
    address: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    admin,
    hasClock: true,
    patienceMs: 8000,
    alsoSecret: [],
    freshLogin,
    hopeless: async () => [
      { name: 'with a wrong admin', login: await freshLogin(), admin: newCredential() },
      { name: 'for a login that is missing', login: makeLogin(new Map()), admin },
    ],
    stop: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function makeLogin(passwords: Map<string, string>): FreshLogin {
  const login = randomBytes(6).toString('hex');
  const base = newCredential();
  passwords.set(login, base.password.expose());
  return {
    base,
    settingsAt: ({ host, port }) => ({ host, port, login }),
    logsIn: async ({ password }) => passwords.get(login) === password.expose(),
    state: async () => passwords.get(login) ?? '',
  };
}

function newCredential(): Credential {
  return { username: null, password: new SecretString(randomBytes(18).toString('base64url')) };
}

async function sendRequest(
  { host, port }: Address,
  request: Request,
  timeoutMs: number | null,
): Promise<string> {
  const socket = connect({ host, port });
  const signal = timeoutMs === null ? undefined : AbortSignal.timeout(timeoutMs);
  signal?.addEventListener('abort', () => socket.destroy(new Error('no answer in time')));
  try {
    socket.write(`${JSON.stringify(request)}\n`);
    const answer = await text(socket);
    if (answer === '') throw new Error('no answer');
    return answer;
  } catch (cause) {
    throw new AppError('target_unreachable', { detail: `fake ${host}:${port}`, cause });
  }
}
