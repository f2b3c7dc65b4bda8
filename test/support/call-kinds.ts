/** What went out, as a proxy saw it. For PostgreSQL `method` is the message's name and `path` its SQL. */
export interface Outgoing {
  readonly service: Service;
  readonly method: string;
  /** Decoded, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export type Service = 'blob' | 'queue' | 'table' | 'vault' | 'webhook' | 'postgres';

export interface CallKind {
  readonly kind: string;
  /** Whether it is a call of a rotation; renewals and polls are not. */
  readonly counts: boolean;
  readonly matches: (call: Outgoing) => boolean;
}

const isHost =
  (traffic: string) =>
  ({ headers }: Outgoing): boolean =>
    (headers['user-agent'] ?? '').startsWith(`keyturn-host-${traffic}`);
const to =
  (service: Service, method: string, also: (call: Outgoing) => boolean = () => true) =>
  (call: Outgoing): boolean =>
    call.service === service && call.method === method && also(call);
const row =
  (prefix: string) =>
  ({ path }: Outgoing): boolean =>
    path.includes(`RowKey='${prefix}`);
const listsActive = ({ query }: Outgoing): boolean =>
  /RowKey ge 'active:0/.test(query.get('$filter') ?? '');
const secrets =
  (pattern: RegExp) =>
  ({ path }: Outgoing): boolean =>
    pattern.test(path);

/** All kinds of calls; the first that matches names the call. Row keys are written as the store encodes them. */
export const callKinds: readonly CallKind[] = [
  { kind: 'host.poll', counts: false, matches: isHost('poll') },
  { kind: 'host.renewal', counts: false, matches: isHost('renewal') },
  { kind: 'host.lock', counts: false, matches: isHost('lock') },
  { kind: 'host.work', counts: true, matches: isHost('work') },
  { kind: 'lease.renewal', counts: false, matches: to('table', 'PUT', row('lease:0')) },
  { kind: 'sweep.list', counts: false, matches: to('table', 'GET', listsActive) },
  { kind: 'table.transact', counts: true, matches: to('table', 'POST', isPath(/\/\$batch$/)) },
  { kind: 'table.create', counts: true, matches: to('table', 'POST', isPath(/\/Tables$/)) },
  { kind: 'table.read', counts: true, matches: to('table', 'GET') },
  { kind: 'table.write', counts: true, matches: to('table', 'PUT') },
  { kind: 'table.insert', counts: true, matches: to('table', 'POST') },
  { kind: 'table.delete', counts: true, matches: to('table', 'DELETE') },
  { kind: 'queue.send', counts: true, matches: to('queue', 'POST', isPath(/\/messages$/)) },
  { kind: 'queue.create', counts: true, matches: to('queue', 'PUT') },
  { kind: 'audit.append', counts: true, matches: to('blob', 'PUT', asks('comp', 'appendblock')) },
  { kind: 'blob.home', counts: true, matches: to('blob', 'PUT', asks('restype', 'container')) },
  { kind: 'audit.create', counts: true, matches: to('blob', 'PUT') },
  { kind: 'blob.read', counts: true, matches: to('blob', 'GET') },
  { kind: 'vault.challenge', counts: true, matches: isChallenge },
  { kind: 'vault.set', counts: true, matches: to('vault', 'PUT') },
  {
    kind: 'vault.versions',
    counts: true,
    matches: to('vault', 'GET', secrets(/^\/secrets\/[^/]+\/versions$/)),
  },
  { kind: 'vault.get', counts: true, matches: to('vault', 'GET', secrets(/^\/secrets\/[^/]+/)) },
  { kind: 'vault.list', counts: true, matches: to('vault', 'GET', secrets(/^\/secrets\/?$/)) },
  { kind: 'vault.delete', counts: true, matches: to('vault', 'DELETE', secrets(/^\/secrets\//)) },
  { kind: 'vault.deleted', counts: true, matches: to('vault', 'GET', secrets(/^\/deleted/)) },
  { kind: 'vault.purge', counts: true, matches: to('vault', 'DELETE', secrets(/^\/deleted/)) },
  { kind: 'webhook', counts: true, matches: to('webhook', 'POST') },
  { kind: 'pg.tls', counts: true, matches: to('postgres', 'SSLRequest') },
  { kind: 'pg.startup', counts: true, matches: to('postgres', 'Startup') },
  { kind: 'pg.password', counts: true, matches: to('postgres', 'Password') },
  { kind: 'pg.query', counts: true, matches: to('postgres', 'Query') },
  { kind: 'pg.extended', counts: true, matches: to('postgres', 'Extended') },
  { kind: 'pg.terminate', counts: true, matches: to('postgres', 'Terminate') },
];

/** What no rule knows counts too, and a dry pass refuses it by this name. */
const unknownKind: CallKind = { kind: 'unknown', counts: true, matches: () => true };

export function kindOf(call: Outgoing): CallKind {
  return callKinds.find(({ matches }) => matches(call)) ?? unknownKind;
}

/** One line about the call for people: never a value, which only bodies hold. */
export function labelOf(call: Outgoing): string {
  const state = journalState(call);
  if (state !== null) return `journal ${state}`;
  if (call.service === 'postgres') return sqlLabel(call.path);
  const [, , name = ''] = /^\/(devstoreaccount1\/)?(.*)$/.exec(call.path) ?? [];
  return `${call.method} ${call.service} ${name}`;
}

function sqlLabel(sql: string): string {
  const altered = /ALTER ROLE "[^"]*"/.exec(sql);
  return altered === null ? sql.replaceAll(/\s+/g, ' ').slice(0, 60) : altered[0];
}

/** The state that a journal is being written with; null when the call writes none. */
export function journalState({ service, path, body }: Outgoing): string | null {
  if (service !== 'table' || !path.endsWith('/$batch') || !body.includes('"journal:0')) return null;
  return /\\"state\\":\\"([A-Z_]+)\\",\\"epoch\\"/.exec(body)?.[1] ?? null;
}

function isPath(pattern: RegExp) {
  return ({ path }: Outgoing): boolean => pattern.test(path);
}

function asks(name: string, value: string) {
  return ({ query }: Outgoing): boolean => query.get(name) === value;
}

/** The first call of a process to a vault goes without a token, to be told where tokens come from. */
function isChallenge({ service, headers }: Outgoing): boolean {
  return service === 'vault' && headers['authorization'] === undefined;
}
