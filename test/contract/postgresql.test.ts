import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import { Policy } from '../../src/core/policies/policy.ts';
import { Target } from '../../src/core/policies/target.ts';
import type { Fence, HandlerContext } from '../../src/core/rotation/handler.ts';
import { postgresql } from '../../src/core/rotation/handlers/postgresql.ts';
import { scramVerifier } from '../../src/core/rotation/handlers/scram.ts';
import type { Credential } from '../../src/core/rotation/value.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { startPostgres } from '../support/postgres.ts';

let server: Awaited<ReturnType<typeof startPostgres>>;

beforeAll(async () => {
  server = await startPostgres();
}, 60_000);
afterAll(() => server.stop());

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;
const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** A role with a password the server knows only as a verifier. */
async function createRole(name: string, password = 'first', options = 'LOGIN'): Promise<void> {
  const verifier = await scramVerifier(new SecretString(password));
  await server.query(`DROP ROLE IF EXISTS ${quoted(name)}`);
  await server.query(`CREATE ROLE ${quoted(name)} ${options} PASSWORD ${literal(verifier)}`);
}

interface Place {
  readonly port?: number;
  readonly logins?: object;
  readonly admin?: { readonly username: string; readonly password: string };
  readonly endSessions?: boolean;
  readonly database?: string;
}

function contextOf(place: Place = {}): HandlerContext<unknown> {
  const settings = postgresql.targetSettings?.parse({
    host: '127.0.0.1',
    port: place.port ?? server.port,
    tls: { mode: 'off' },
    logins: place.logins ?? { overlap: 'none', login: 'app' },
    ...(place.endSessions === undefined ? {} : { endSessions: place.endSessions }),
    ...(place.database === undefined ? {} : { database: place.database }),
  });
  const { username, password } = place.admin ?? {
    username: 'postgres',
    password: server.adminPassword,
  };
  return { settings, admin: async () => ({ username, password: new SecretString(password) }) };
}

const free: Fence = { hold: async () => 60_000, guard: () => undefined };
const credential = (password: string, username: string | null = null): Credential => ({
  username,
  password: new SecretString(password),
});

/** What a client of its own, not ours, is told. */
async function logsIn(username: string, password: string): Promise<boolean> {
  const login = { user: username, password, port: server.port, database: 'postgres' };
  const client = new pg.Client({ ...login, host: '127.0.0.1' });
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** A TCP relay that a test can break. */
async function relay(
  onData: (from: 'client' | 'server', bytes: Buffer, cut: () => void) => boolean,
) {
  const sockets = new Set<Socket>();
  const listener: Server = createServer((client) => {
    const upstream = connect(server.port, '127.0.0.1');
    const cut = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', cut);
    }
    client.on('data', (bytes) => onData('client', bytes, cut) && upstream.write(bytes));
    upstream.on('data', (bytes) => onData('server', bytes, cut) && client.write(bytes));
    client.on('end', () => upstream.end());
    upstream.on('end', () => client.end());
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    listener.close();
    await once(listener, 'close');
  };
  return { port: (listener.address() as AddressInfo).port, close };
}

describe('a starter that is worth testing against', () => {
  it('lets nobody in without the right password', async () => {
    expect(await logsIn('postgres', server.adminPassword)).toBe(true);
    expect(await logsIn('postgres', 'wrong')).toBe(false);
    expect(await logsIn('postgres', '')).toBe(false);
    const rules = await server.query('SELECT DISTINCT auth_method FROM pg_hba_file_rules');
    expect(rules).toEqual([{ auth_method: 'scram-sha-256' }]);
  });

  it('logs statements, so that a password in one would be found', async () => {
    const context = contextOf();
    await createRole('app');
    await context.admin();
    const client = new pg.Client({
      ...{ host: '127.0.0.1', port: server.port, database: 'postgres' },
      ...{ user: 'postgres', password: server.adminPassword },
    });
    await client.connect();
    await client.query(`ALTER ROLE app PASSWORD 'canary-in-the-open'`);
    await client.end();
    expect(server.logText()).toContain('canary-in-the-open');
  });
});

describe('postgresql', () => {
  beforeEach(() => createRole('app'));

  it('sets a password that logs in from then on, and the old one no more', async () => {
    const context = contextOf();
    await postgresql.preflight(context, 'app');
    expect(await postgresql.verify(context, credential('first'))).toBe(true);
    await postgresql.apply(context, credential('second'), free);
    expect(await postgresql.verify(context, credential('second'))).toBe(true);
    expect(await postgresql.verify(context, credential('first'))).toBe(false);
    expect(await logsIn('app', 'second')).toBe(true);
    await postgresql.restore(context, credential('first'), free);
    expect(await logsIn('app', 'first')).toBe(true);
  });

  it('may do everything twice', async () => {
    const context = contextOf();
    for (const verb of ['apply', 'restore'] as const) {
      await postgresql[verb](context, credential('again'), free);
      await postgresql[verb](context, credential('again'), free);
      expect(await logsIn('app', 'again')).toBe(true);
    }
    await postgresql.retire(context, 'app', free);
    await postgresql.retire(context, 'app', free);
    expect(await logsIn('app', 'again')).toBe(false);
  });

  it('lets open sessions live when it retires a login, or ends them when it is told to', async () => {
    const logins = { overlap: 'users', logins: ['app', 'app_b'] };
    const session = new pg.Client({
      ...{ host: '127.0.0.1', port: server.port, database: 'postgres' },
      ...{ user: 'app', password: 'first' },
    });
    const ended = new Promise((resolve) => session.once('end', resolve));
    session.on('error', () => undefined);
    await session.connect();
    await postgresql.retire(contextOf({ logins }), 'app', free);
    expect((await session.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await postgresql.retire(contextOf({ logins, endSessions: true }), 'app', free);
    await ended;
  });

  it.each([
    'quote"d',
    "apo'strophe",
    'größe-名前',
    '$dollar$',
    'space and \\ backslash',
    'DROP ROLE x;--',
  ])('sets the password of the login %s and of no other', async (name) => {
    await createRole(name);
    const context = contextOf({ logins: { overlap: 'none', login: name } });
    await postgresql.preflight(context, name);
    await postgresql.apply(context, credential('second'), free);
    expect(await logsIn(name, 'second')).toBe(true);
    expect(await logsIn('app', 'first')).toBe(true);
    await server.query(`DROP ROLE ${quoted(name)}`);
  });

  it.each([
    'symbols !"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~',
    'ÄÖÜ-größe-密码-🔑',
    'no-break\u00a0space',
    'soft\u00adhyphen',
    'joined\u200dand\u2060glued',
    'e\u0301 decomposed, ﬁ ligature, Ⅸ numeral',
    '$1$2 $k0$ quoted',
    'x'.repeat(256),
  ])('sets a password that every client may send: %s', async (password) => {
    const context = contextOf();
    await postgresql.apply(context, credential(password), free);
    expect(await postgresql.verify(context, credential(password))).toBe(true);
    expect(await logsIn('app', password)).toBe(true);
    const [row] = await server.query(`SELECT rolpassword FROM pg_authid WHERE rolname = 'app'`);
    expect(row?.['rolpassword']).toMatch(/^SCRAM-SHA-256\$4096:/);
  });

  it.each(['ÄÖÜ-größe', 'no-break\u00a0space', 'soft\u00adhyphen', 'e\u0301', 'a\u200db'])(
    'accepts what the server itself made of the password %j',
    async (password) => {
      await server.query(`ALTER ROLE app PASSWORD ${literal(password)}`);
      expect(await postgresql.verify(contextOf(), credential(password))).toBe(true);
      const [row] = await server.query(`SELECT rolpassword FROM pg_authid WHERE rolname = 'app'`);
      const [, salt = ''] = /^SCRAM-SHA-256\$4096:([^$]*)/.exec(String(row?.['rolpassword'])) ?? [];
      const ours = await scramVerifier(new SecretString(password), Buffer.from(salt, 'base64'));
      expect(ours).toBe(row?.['rolpassword']);
    },
  );

  it('sends no clear password to where statements are logged', async () => {
    const canary = 'canary-Zq7Kp2';
    const context = contextOf({ logins: { overlap: 'users', logins: ['app', 'app_b'] } });
    await createRole('app_b');
    for (const verb of ['apply', 'restore'] as const) {
      await postgresql[verb](context, credential(canary, 'app_b'), free);
    }
    await postgresql.verify(context, credential(canary, 'app_b'));
    await postgresql.verify(context, credential(`wrong-${canary}`, 'app_b'));
    const log = server.logText();
    expect(log).toContain('ALTER ROLE "app_b" PASSWORD \'SCRAM-SHA-256$');
    for (const text of [canary, Buffer.from(canary).toString('base64').slice(0, -2)]) {
      expect(log).not.toContain(text);
    }
    expect(log).not.toContain(server.adminPassword);
  });

  it('works through an admin who may create roles and has this one to administer', async () => {
    await createRole('warden', 'warden-password', 'LOGIN CREATEROLE');
    await server.query('GRANT app TO warden WITH ADMIN OPTION');
    const context = contextOf({ admin: { username: 'warden', password: 'warden-password' } });
    await postgresql.preflight(context, 'app');
    await postgresql.apply(context, credential('second'), free);
    expect(await logsIn('app', 'second')).toBe(true);
    await server.query('REVOKE app FROM warden; DROP ROLE warden');
  });
});

describe('postgresql before it changes anything', () => {
  beforeEach(() => createRole('app'));

  it('refuses a login that is missing or may not log in', async () => {
    await createRole('asleep', 'first', 'NOLOGIN');
    for (const login of ['missing', 'asleep']) {
      const context = contextOf({ logins: { overlap: 'none', login } });
      await expect(postgresql.preflight(context, login)).rejects.toMatchObject({
        code: 'target_refused',
        detail: expect.stringContaining(login),
      });
    }
    await server.query('DROP ROLE asleep');
  });

  it('refuses an admin who may not alter roles', async () => {
    await createRole('clerk', 'clerk-password');
    const context = contextOf({ admin: { username: 'clerk', password: 'clerk-password' } });
    await expect(postgresql.preflight(context, 'app')).rejects.toMatchObject({
      code: 'target_refused',
      detail: expect.stringContaining('CREATEROLE'),
    });
    await expect(postgresql.apply(context, credential('x'), free)).rejects.toMatchObject({
      code: 'target_refused',
    });
    expect(await logsIn('app', 'first')).toBe(true);
    await server.query('DROP ROLE clerk');
  });

  it('tells a wrong admin password from a wrong password, without quoting either', async () => {
    const context = contextOf({ admin: { username: 'postgres', password: 'not-the-admin' } });
    const refusal = await postgresql.preflight(context, 'app').catch((error: AppError) => error);
    expect(refusal).toMatchObject({
      code: 'target_refused',
      detail: expect.stringContaining('correct the admin secret'),
    });
    expect(JSON.stringify([refusal, String(refusal)])).not.toContain('not-the-admin');
    expect(await postgresql.verify(contextOf(), credential('wrong'))).toBe(false);
  });

  it('refuses a database that is not there', async () => {
    const context = contextOf({ database: 'nowhere' });
    await expect(postgresql.preflight(context, 'app')).rejects.toMatchObject({
      code: 'target_refused',
    });
  });

  it.each([
    ['a login of another target', 'somebody'],
    ['no login', null],
  ])('refuses %s where logins alternate', async (_what, username) => {
    const context = contextOf({ logins: { overlap: 'users', logins: ['app', 'app_b'] } });
    const { settings } = context;
    expect(() => postgresql.nextLogin(settings, username)).toThrow('target_refused');
    await expect(postgresql.verify(context, credential('x', username))).rejects.toMatchObject({
      code: 'target_refused',
    });
    expect(postgresql.nextLogin(settings, 'app')).toBe('app_b');
    expect(postgresql.nextLogin(settings, 'app_b')).toBe('app');
  });

  it('refuses a name that no statement can hold', async () => {
    const context = contextOf({ logins: { overlap: 'none', login: 'a\0b' } });
    await expect(postgresql.apply(context, credential('x'), free)).rejects.toMatchObject({
      code: 'target_refused',
    });
  });
});

describe('postgresql when the server is not there', () => {
  beforeEach(() => createRole('app'));

  it('says so for every verb', async () => {
    const closed = await relay(() => true);
    await closed.close();
    const context = contextOf({ port: closed.port });
    for (const verb of [
      () => postgresql.preflight(context, 'app'),
      () => postgresql.apply(context, credential('x'), free),
      () => postgresql.verify(context, credential('x')),
      () => postgresql.retire(context, 'app', free),
      () => postgresql.restore(context, credential('x'), free),
    ]) {
      await expect(verb()).rejects.toMatchObject({ code: 'target_unreachable' });
    }
  });

  it('finishes when it is back', async () => {
    await server.restart();
    expect(await postgresql.verify(contextOf(), credential('first'))).toBe(true);
  });

  it('says so when it commits and drops the connection, and may then be repeated', async () => {
    let isSent = false;
    const dropping = await relay((from, bytes, cut) => {
      if (from === 'client') isSent ||= bytes.includes('ALTER ROLE');
      else if (isSent) cut();
      return true;
    });
    const context = contextOf({ port: dropping.port });
    await expect(postgresql.apply(context, credential('second'), free)).rejects.toMatchObject({
      code: 'target_unreachable',
    });
    expect(await logsIn('app', 'second')).toBe(true);
    await postgresql.apply(contextOf(), credential('second'), free);
    expect(await logsIn('app', 'second')).toBe(true);
    await dropping.close();
  });

  it.each([
    ['from the start', () => true],
    [
      'after the last answer',
      (from: string, bytes: Buffer) => from === 'client' && bytes[0] === 0x58,
    ],
  ])(
    'does not wait for ever for one that falls silent %s',
    async (_when, isSilent) => {
      let silent = false;
      const mute = await relay((from, bytes) => {
        silent ||= isSilent(from, bytes);
        return !silent;
      });
      const started = performance.now();
      const done = postgresql.verify(contextOf({ port: mute.port }), credential('first'));
      const outcome = await done.catch((error: AppError) => error.code);
      expect([true, 'target_unreachable']).toContain(outcome);
      expect(performance.now() - started).toBeLessThan(7000);
      await mute.close();
    },
    15_000,
  );
});

describe('a change that comes late', () => {
  beforeEach(() => createRole('app'));

  it('is refused by the server itself, however long it was on its way', async () => {
    const slow = await relay((from, bytes) => {
      if (from !== 'client' || !bytes.includes('ALTER ROLE')) return true;
      // The process is not asked again: only the server can tell that this is too late.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
      return true;
    });
    const fence: Fence = { hold: async () => 1000, guard: () => undefined };
    const context = contextOf({ port: slow.port });
    await expect(postgresql.apply(context, credential('late'), fence)).rejects.toMatchObject({
      code: 'lease_lost',
    });
    expect(await logsIn('app', 'first')).toBe(true);
    await slow.close();
  });

  it('is not sent when the lease is lost before', async () => {
    const lost = () => {
      throw new AppError('lease_lost', { detail: 'gone' });
    };
    for (const fence of [
      { hold: async () => lost(), guard: () => undefined },
      { hold: async () => 60_000, guard: lost },
    ]) {
      await expect(postgresql.retire(contextOf(), 'app', fence)).rejects.toMatchObject({
        code: 'lease_lost',
      });
    }
    expect(await logsIn('app', 'first')).toBe(true);
  });
});

describe('a target document of postgresql', () => {
  const settings = {
    host: 'db.example.com',
    tls: { mode: 'verify' },
    logins: { overlap: 'none', login: 'app' },
  };
  const faults = (changes: object) =>
    (postgresql.targetSettings?.safeParse({ ...settings, ...changes }).error?.issues ?? []).map(
      ({ path, message }) => `${path.join('.')}: ${message}`,
    );

  it.each([
    ['no TLS to another machine', { tls: { mode: 'off' } }, 'tls.mode: off is for loopback'],
    ['a host that is none', { host: 'db/evil' }, 'host: write a host name'],
    [
      'one login twice',
      { logins: { overlap: 'users', logins: ['a', 'a'] } },
      'logins.logins: name two',
    ],
    [
      'a name the server would cut',
      { logins: { overlap: 'none', login: 'x'.repeat(64) } },
      'logins.login: PostgreSQL cuts',
    ],
    [
      'a name that is too long in bytes',
      { logins: { overlap: 'none', login: 'ü'.repeat(32) } },
      'logins.login: PostgreSQL cuts',
    ],
  ])('is refused for %s', (_what, changes, fault) => {
    expect(faults(changes)).toContainEqual(expect.stringContaining(fault));
  });

  it.each(['localhost', '127.0.0.1', '::1'])('may leave out TLS to %s', (host) => {
    expect(faults({ host, tls: { mode: 'off' } })).toEqual([]);
  });

  it('uses TLS with the authority it names, and refuses a server without', async () => {
    for (const tls of [{ mode: 'verify' }, { mode: 'verify', ca: 'none' }]) {
      const context = contextOf();
      const given = { ...(context.settings as object), tls };
      await expect(
        postgresql.verify({ ...context, settings: given }, credential('x')),
      ).rejects.toMatchObject({
        code: 'target_unreachable',
      });
    }
  });

  it('goes with a policy that holds the user name where logins alternate', () => {
    const logins = { overlap: 'users', logins: ['a', 'b'] };
    const objects = [{ vault: 'main', type: 'secret', name: 'orders-db' }];
    const admin = { vault: 'main', name: 'db-admin', username: 'admin' };
    const target = (changes: object) =>
      Target.parse({
        id: 't',
        handler: 'postgresql',
        objects,
        settings: { ...settings, ...changes },
      });
    const policy = (value: object) =>
      Policy.parse({
        ...{ id: 'p', covers: objects, handler: 'postgresql', target: 't', grace: 'P1D', value },
        schedule: { validFor: 'P90D', leadTime: 'P30D' },
      });
    const json = { shape: 'json', template: { u: '{{username}}', p: '{{password}}' } };
    expect(postgresql.check(policy({ shape: 'raw' }), target({ logins }))).toEqual([
      expect.stringContaining('admin secret'),
      expect.stringContaining('{{username}}'),
    ]);
    expect(postgresql.check(policy(json), { ...target({ logins }), admin })).toEqual([]);
    expect(postgresql.overlap(postgresql.targetSettings?.parse(target({ logins }).settings))).toBe(
      'users',
    );
  });

  it('names what must not be touched by two at once, whatever the case of the host', () => {
    const resources = (host: string) =>
      postgresql.resources(postgresql.targetSettings?.parse({ ...settings, host }));
    expect(resources('DB.example.com')).toEqual(resources('db.example.com'));
  });
});
