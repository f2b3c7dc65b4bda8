import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { Postgres } from '../../local/postgres.ts';
import type { Credential } from '../../src/core/rotation/value.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { startPostgres } from '../support/postgres.ts';
import type { Address } from './cutting-proxy.ts';
import type { Fixture, FreshLogin, Hopeless, TestTarget } from './fixture.ts';

type Kind = 'one login' | 'two logins, sessions ended';

/** A real PostgreSQL for the handler `postgresql`, in the two ways in which it may be set up. */
export const postgres = {
  oneLogin: fixture('one login'),
  twoLogins: fixture('two logins, sessions ended'),
};

function fixture(kind: Kind): Fixture {
  return { name: kind, start: () => start(kind) };
}

async function start(kind: Kind): Promise<TestTarget> {
  const server = await startPostgres();
  // By far not a superuser: what a careful operator would give us. It may alter what it made.
  const admin = credential('rotator');
  await server.query(`CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '${admin.password.expose()}'`);
  return {
    address: { host: '127.0.0.1', port: server.port },
    admin,
    hasClock: true,
    patienceMs: 15_000,
    alsoSecret: [/SCRAM-SHA-256\$\d+:/],
    freshLogin: () => makeLogin(server, kind),
    hopeless: () => hopeless(server, { kind, admin }),
    stop: server.stop,
  };
}

async function makeLogin(server: Postgres, kind: Kind): Promise<FreshLogin> {
  const names = kind === 'one login' ? [newName()] : [newName(), newName()];
  const first = names[0] ?? '';
  const base = credential(kind === 'one login' ? null : first);
  for (const name of names) {
    const password = name === first ? base.password : credential(null).password;
    await server.query(`CREATE ROLE "${name}" LOGIN PASSWORD '${password.expose()}'`);
    await server.query(`GRANT "${name}" TO rotator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`);
  }
  return {
    base,
    settingsAt: (address) => settingsAt(address, names),
    logsIn: ({ username, password }) =>
      logsIn(server.port, { username: username ?? first, password }),
    state: async () => {
      const rows = await server.query(
        `SELECT a.*, (SELECT count(*) FROM pg_auth_members m WHERE m.roleid = a.oid) AS members
           FROM pg_authid a WHERE rolname = ANY($1) ORDER BY rolname`,
        [names],
      );
      return JSON.stringify(rows);
    },
  };
}

function settingsAt({ host, port }: Address, names: readonly string[]): Record<string, unknown> {
  const [login] = names;
  const isOne = names.length === 1;
  return {
    host,
    port,
    database: 'postgres',
    tls: { mode: host === '127.0.0.1' ? 'off' : 'verify' },
    logins: isOne ? { overlap: 'none', login } : { overlap: 'users', logins: names },
    endSessions: !isOne,
  };
}

/** One thing broken in each, for every login of the target or for the admin. */
async function hopeless(
  server: Postgres,
  { kind, admin }: { readonly kind: Kind; readonly admin: Credential },
): Promise<readonly Hopeless[]> {
  const broken = async (name: string, sql: (role: string) => string): Promise<Hopeless> => {
    const login = await makeLogin(server, kind);
    for (const role of namesOf(login)) await server.query(sql(`"${role}"`));
    return { name, login, admin };
  };
  const name = `powerless ${randomBytes(6).toString('hex')}`;
  const powerless = credential(name);
  await server.query(`CREATE ROLE "${name}" LOGIN PASSWORD '${powerless.password.expose()}'`);
  return [
    await broken('for a login that may not log in', (role) => `ALTER ROLE ${role} NOLOGIN`),
    await broken('for a login that is missing', (role) => `DROP ROLE ${role}`),
    await broken(
      'for a login past its validity',
      (role) => `ALTER ROLE ${role} VALID UNTIL '2020-01-01'`,
    ),
    await broken('for a login that is a superuser', (role) => `ALTER ROLE ${role} SUPERUSER`),
    await broken(
      'for a login that the admin may not administer',
      (role) => `REVOKE ${role} FROM rotator`,
    ),
    {
      name: 'with a wrong admin password',
      login: await makeLogin(server, kind),
      admin: credential('rotator'),
    },
    {
      name: 'with an unknown admin',
      login: await makeLogin(server, kind),
      admin: credential('nobody'),
    },
    {
      name: 'with an admin who may not alter',
      login: await makeLogin(server, kind),
      admin: powerless,
    },
  ];
}

function namesOf(login: FreshLogin): readonly string[] {
  const settings = login.settingsAt({ host: '127.0.0.1', port: 1 });
  const { logins, login: only } = settings['logins'] as { logins?: string[]; login?: string };
  return logins ?? [only ?? ''];
}

async function logsIn(port: number, { username, password }: Credential): Promise<boolean> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: username ?? '',
    password: password.expose(),
    database: 'postgres',
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return true;
  } catch (error) {
    // Password or role refused: the one definite no.
    if (error instanceof pg.DatabaseError && error.code === '28P01') return false;
    throw error;
  } finally {
    await client.end();
  }
}

function credential(username: string | null): Credential {
  return { username, password: new SecretString(`known-${randomBytes(18).toString('base64url')}`) };
}

/** With what a careless statement would trip over. */
function newName(): string {
  return `It's a $login$ ${randomBytes(6).toString('hex')}`;
}
