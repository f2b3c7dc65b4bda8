import { randomBytes } from 'node:crypto';
import { isIPv6, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientConfig } from 'pg';
import { z } from 'zod';
import { AppError } from '../../errors.ts';
import { SecretString } from '../../secret-string.ts';
import { defineHandler, type Fence, type HandlerContext } from '../handler.ts';
import type { Credential } from '../value.ts';
import { scramVerifier } from './scram.ts';

const connectTimeoutMs = 5000;
const queryTimeoutMs = 5000;
const lockTimeoutMs = 500;
const goodbyeMs = 1000;
/** Raised by our own statement when it reaches the server after the lease has ended. */
const lateState = 'KT001';

const Login = z
  .string()
  .min(1)
  .refine((name) => Buffer.byteLength(name) <= 63, 'PostgreSQL cuts names at 63 bytes');
const Host = z.string().regex(/^[a-zA-Z0-9.:-]{1,253}$/, 'write a host name or an address');

const Settings = z
  .strictObject({
    host: Host,
    port: z.int().min(1).max(65535).default(5432),
    database: Login.default('postgres'),
    tls: z.discriminatedUnion('mode', [
      z.strictObject({ mode: z.literal('verify'), ca: z.string().optional() }),
      z.strictObject({ mode: z.literal('off') }),
    ]),
    logins: z.discriminatedUnion('overlap', [
      z.strictObject({ overlap: z.literal('none'), login: Login }),
      z.strictObject({
        overlap: z.literal('users'),
        logins: z.tuple([Login, Login]).refine(([a, b]) => a !== b, 'name two different logins'),
      }),
    ]),
    /** Whether retiring a login ends its open sessions too; they outlive a password change. */
    endSessions: z.boolean().default(false),
  })
  .refine(({ tls, host }) => tls.mode === 'verify' || isLoopback(host), {
    path: ['tls', 'mode'],
    message: 'off is for loopback hosts only; use verify',
  });
type Settings = z.output<typeof Settings>;

/** PostgreSQL 10 or newer, through an admin who may alter the logins. Never sends a clear password. */
export const postgresql = defineHandler<Settings>({
  id: 'postgresql',
  credentialClass: 'chosen',
  targetSettings: Settings,

  check(policy, target) {
    const settings = Settings.parse(target?.settings);
    const faults: string[] = [];
    if (!target?.admin) faults.push('target: its admin secret is missing');
    // A login has one password: a second secret that holds it would be dead after each rotation.
    const objects = target?.objects ?? [];
    if (objects.length !== 1 || objects[0]?.name.includes('*')) {
      faults.push('target: its objects must be one secret, by its exact name');
    }
    const named =
      policy.value.shape === 'json' &&
      Object.values(policy.value.template).includes('{{username}}');
    if (settings.logins.overlap === 'users' && !named) {
      faults.push('value: alternating logins need a JSON template with "{{username}}"');
    }
    return faults;
  },

  overlap: (settings) => settings.logins.overlap,

  resources: (settings) =>
    loginsOf(settings).map(
      (login) => `postgresql/${canonicalHost(settings.host)}/${settings.port}/${login}`,
    ),

  nextLogin({ logins }, current) {
    if (logins.overlap === 'none') return logins.login;
    const [first, second] = logins.logins;
    if (current !== first && current !== second) {
      throw new AppError('target_refused', {
        detail: `the stored user name is neither ${first} nor ${second}: correct the secret or the target document`,
      });
    }
    return current === first ? second : first;
  },

  async preflight(context, login) {
    await asAdmin(context, async (client) => {
      const found = await client.query(
        // Since version 16 CREATEROLE reaches only roles the admin was given with ADMIN OPTION.
        `SELECT r.rolcanlogin AND coalesce(r.rolvaliduntil > now(), true) AS can_login,
                a.rolsuper OR (a.rolcreaterole AND NOT r.rolsuper AND (
                  current_setting('server_version_num')::int < 160000
                  OR pg_has_role(a.oid, r.oid, 'MEMBER WITH ADMIN OPTION'))) AS may_alter
           FROM pg_roles a LEFT JOIN pg_roles r ON r.rolname = $1 WHERE a.rolname = current_user`,
        [login],
      );
      const row = found.rows[0];
      if (row?.can_login !== true) {
        throw refused(`role ${login} is missing, may not log in, or is past its VALID UNTIL`);
      }
      if (row.may_alter !== true) {
        throw refused(
          `the admin may not alter ${login}: give it CREATEROLE and ADMIN OPTION on it`,
        );
      }
    });
  },

  apply: (context, candidate, fence) => setPassword(context, { ...candidate, fence }),

  restore: (context, base, fence) => setPassword(context, { ...base, fence }),

  async verify({ settings }, credential) {
    const username = loginOf(settings, credential.username);
    try {
      const run = async (client: Client) => void (await client.query('SELECT 1'));
      await connected(settings, { username, password: credential.password }, run);
      return true;
    } catch (error) {
      if (error instanceof AppError && error.code === 'credential_rejected') return false;
      throw error;
    }
  },

  async retire(context, login, fence) {
    // Nobody keeps this value: from here on the login accepts nothing anyone knows.
    const password = new SecretString(randomBytes(32).toString('base64url'));
    await setPassword(context, { username: login, password, fence });
    if (!context.settings.endSessions) return;
    await asAdmin(context, async (client) => {
      const deadline = await deadlineOf(client, fence);
      fence.guard();
      await client.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE usename = $1 AND clock_timestamp() <= to_timestamp($2)`,
        [login, deadline],
      );
    });
  },
});

function loginsOf({ logins }: Settings): readonly string[] {
  return logins.overlap === 'none' ? [logins.login] : logins.logins;
}

function loginOf(settings: Settings, username: string | null): string {
  const [only] = loginsOf(settings);
  const login = settings.logins.overlap === 'none' ? only : username;
  if (!login || !loginsOf(settings).includes(login)) {
    throw refused(`${username} is not a login of this target`);
  }
  return login;
}

async function setPassword(
  context: HandlerContext<Settings>,
  change: Credential & { readonly fence: Fence },
): Promise<void> {
  const login = loginOf(context.settings, change.username);
  const verifier = await scramVerifier(change.password);
  await asAdmin(context, async (client) => {
    const deadline = await deadlineOf(client, change.fence);
    change.fence.guard();
    await client.query(alterRole(login, verifier, deadline));
  });
}

/**
 * Seconds since 1970 on the server's clock after which it is to refuse the change itself: our lease
 * may have passed to someone else by then, however long this process is frozen or the bytes are
 * under way.
 */
async function deadlineOf(client: Client, fence: Fence): Promise<number> {
  const clock = await client.query('SELECT extract(epoch FROM clock_timestamp())::float8 AS now');
  const milliseconds = await fence.hold();
  return Number(clock.rows[0]?.now) + (milliseconds - lockTimeoutMs) / 1000;
}

/** One statement: a check of the server's clock and the change. The tag cannot occur in the text. */
function alterRole(login: string, verifier: string, deadline: number): string {
  const tag = `$k${randomBytes(8).toString('hex')}$`;
  return `DO ${tag} BEGIN
IF clock_timestamp() > to_timestamp(${deadline.toFixed(3)}) THEN
  RAISE EXCEPTION 'the deadline of this change has passed' USING ERRCODE = '${lateState}';
END IF;
ALTER ROLE ${quoteIdentifier(login)} PASSWORD ${quoteLiteral(verifier)};
END ${tag}`;
}

function quoteIdentifier(name: string): string {
  if (name.includes('\0')) throw refused('a role name cannot hold a zero byte');
  return `"${name.replaceAll('"', '""')}"`;
}

function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

async function asAdmin(
  context: HandlerContext<Settings>,
  run: (client: Client) => Promise<void>,
): Promise<void> {
  const admin = await context.admin();
  try {
    await connected(context.settings, { ...admin, username: admin.username ?? '' }, run);
  } catch (cause) {
    if (!(cause instanceof AppError) || cause.code !== 'credential_rejected') throw cause;
    throw new AppError('target_refused', {
      detail: 'the target does not accept its admin credential: correct the admin secret',
      cause,
    });
  }
}

async function connected(
  settings: Settings,
  login: { readonly username: string; readonly password: SecretString },
  run: (client: Client) => Promise<void>,
): Promise<void> {
  const { default: pg } = await import('pg');
  const socket = new Socket();
  const client = new pg.Client({ ...clientConfig(settings, login), stream: () => socket });
  // A connection that dies between two queries tells so here; the next query fails with it.
  client.on('error', () => undefined);
  try {
    await client.connect();
    await run(client);
  } catch (error) {
    throw mapError(error, `${settings.host}:${settings.port} as ${login.username}`);
  } finally {
    // What there was to learn is known: a server that does not hang up must not hold us.
    const ended = client.end().catch(() => undefined);
    await Promise.race([ended, sleep(goodbyeMs, undefined, { ref: false })]);
    socket.destroy();
  }
}

function clientConfig(
  settings: Settings,
  login: { readonly username: string; readonly password: SecretString },
): ClientConfig {
  return {
    host: settings.host,
    port: settings.port,
    database: settings.database,
    user: login.username,
    password: login.password.expose(),
    application_name: 'keyturn',
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
    statement_timeout: queryTimeoutMs,
    lock_timeout: lockTimeoutMs,
    ssl: settings.tls.mode === 'off' ? false : tlsOptions(settings.tls.ca),
  };
}

function tlsOptions(ca: string | undefined): { rejectUnauthorized: true; ca?: string } {
  return ca === undefined ? { rejectUnauthorized: true } : { rejectUnauthorized: true, ca };
}

/** SQLSTATE classes that a repeat cannot cure: bad data, no such thing, privilege, unsupported. */
const hopeless = /^(0A|22|23|28|3D|42|55)/;

function mapError(error: unknown, where: string): AppError {
  if (error instanceof AppError) return error;
  const { message, code = '', routine = '' } = Object(error) as Record<string, string | undefined>;
  const detail = `PostgreSQL ${where}${code === '' ? '' : ` (${code})`}`;
  // The server's error carries the statement, and with it the verifier: only its message is kept.
  const cause = new Error(message ?? 'no message');
  if (code === lateState) return new AppError('lease_lost', { detail, cause });
  // 28000 is a definite no only for a role that may not log in; it also stands for "no entry in
  // pg_hba.conf", which says nothing about the credential.
  const isKnown = code === '28P01' || (code === '28000' && routine === 'InitializeSessionUserId');
  if (isKnown) return new AppError('credential_rejected', { detail, cause });
  // 55P03 is a lock that was not free in time; the rest of class 55 is about states of objects.
  if (hopeless.test(code) && code !== '55P03' && code !== '28000') {
    return new AppError('target_refused', { detail, cause });
  }
  return new AppError('target_unreachable', { detail, cause });
}

function refused(detail: string): AppError {
  return new AppError('target_refused', { detail });
}

function isLoopback(host: string): boolean {
  const name = canonicalHost(host);
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}

/** One spelling for every way to write the same name or address. */
function canonicalHost(host: string): string {
  if (isIPv6(host)) return new URL(`http://[${host}]`).hostname;
  return host.toLowerCase().replace(/\.$/, '');
}
