import { describe, expect, it } from 'vitest';
import {
  callKinds,
  journalState,
  kindOf,
  labelOf,
  type Outgoing,
} from '../../support/call-kinds.ts';

const account = '/devstoreaccount1';

function call(
  service: Outgoing['service'],
  request: string,
  more: { readonly agent?: string; readonly body?: string; readonly token?: boolean } = {},
): Outgoing {
  const [method = '', target = ''] = request.split(/ (.*)/s);
  const url = new URL(target.startsWith('/') ? target : '/', 'http://127.0.0.1');
  const headers = {
    'user-agent': more.agent ?? 'azsdk-js',
    ...(more.token === false ? {} : { authorization: 'Bearer t' }),
  };
  const path = service === 'postgres' ? target : decodeURIComponent(url.pathname);
  return { service, method, path, query: url.searchParams, headers, body: more.body ?? '' };
}

const filter = encodeURIComponent("PartitionKey eq 'rotations-2' and RowKey ge 'active:0rotation'");
const examples: readonly [kind: string, counts: boolean, call: Outgoing][] = [
  [
    'host.poll',
    false,
    call('queue', `GET ${account}/q/messages`, { agent: 'keyturn-host-poll x' }),
  ],
  [
    'host.renewal',
    false,
    call('queue', `PUT ${account}/q/messages/1`, { agent: 'keyturn-host-renewal x' }),
  ],
  [
    'host.lock',
    false,
    call('blob', `PUT ${account}/azure-webjobs-hosts/l`, { agent: 'keyturn-host-lock x' }),
  ],
  [
    'host.work',
    true,
    call('queue', `DELETE ${account}/q/messages/1`, { agent: 'keyturn-host-work x' }),
  ],
  [
    'lease.renewal',
    false,
    call('table', `PUT ${account}/t(PartitionKey='rotations-2',RowKey='lease:0main')`),
  ],
  ['sweep.list', false, call('table', `GET ${account}/t()?$filter=${filter}`)],
  ['table.transact', true, call('table', `POST ${account}/$batch`)],
  ['table.create', true, call('table', `POST ${account}/Tables`)],
  [
    'table.read',
    true,
    call('table', `GET ${account}/t(PartitionKey='rotations-2',RowKey='lease:0main')`),
  ],
  ['table.write', true, call('table', `PUT ${account}/t(PartitionKey='r',RowKey='cancel:01')`)],
  ['table.insert', true, call('table', `POST ${account}/t`)],
  ['table.delete', true, call('table', `DELETE ${account}/t(PartitionKey='r',RowKey='x')`)],
  ['queue.send', true, call('queue', `POST ${account}/q/messages`)],
  ['queue.create', true, call('queue', `PUT ${account}/q`)],
  ['audit.append', true, call('blob', `PUT ${account}/c/audit/1.jsonl?comp=appendblock`)],
  ['blob.home', true, call('blob', `PUT ${account}/c?restype=container`)],
  ['audit.create', true, call('blob', `PUT ${account}/c/audit/1.jsonl`)],
  ['blob.read', true, call('blob', `GET ${account}/c/audit/1.jsonl`)],
  ['vault.challenge', true, call('vault', 'GET /secrets/db/', { token: false })],
  ['vault.set', true, call('vault', 'PUT /secrets/db')],
  ['vault.versions', true, call('vault', 'GET /secrets/db/versions')],
  ['vault.get', true, call('vault', 'GET /secrets/db/')],
  ['vault.list', true, call('vault', 'GET /secrets')],
  ['vault.delete', true, call('vault', 'DELETE /secrets/wal-1')],
  ['vault.deleted', true, call('vault', 'GET /deletedsecrets/wal-1')],
  ['vault.purge', true, call('vault', 'DELETE /deletedsecrets/wal-1')],
  ['webhook', true, call('webhook', 'POST /rotated')],
  ['pg.tls', true, call('postgres', 'SSLRequest ')],
  ['pg.startup', true, call('postgres', 'Startup ')],
  ['pg.password', true, call('postgres', 'Password ')],
  ['pg.query', true, call('postgres', 'Query SELECT 1')],
  ['pg.extended', true, call('postgres', 'Extended SELECT $1')],
  ['pg.terminate', true, call('postgres', 'Terminate ')],
];

describe('kindOf', () => {
  it.each(examples)('knows %s', (kind, counts, outgoing) => {
    expect(kindOf(outgoing)).toMatchObject({ kind, counts });
  });

  it('has an example here of every kind', () => {
    expect(examples.map(([kind]) => kind)).toEqual(callKinds.map(({ kind }) => kind));
  });

  it('counts what it does not know', () => {
    expect(kindOf(call('vault', 'POST /keys/k/sign'))).toMatchObject({
      kind: 'unknown',
      counts: true,
    });
  });
});

describe('journalState', () => {
  it('reads the state from a transaction that writes a journal', () => {
    const b0 = JSON.stringify({ id: '01', state: 'APPLYING', epoch: 2 });
    const body = JSON.stringify({ RowKey: 'journal:001', b0 });
    expect(journalState(call('table', `POST ${account}/$batch`, { body }))).toBe('APPLYING');
    expect(journalState(call('table', `POST ${account}/$batch`, { body: '{}' }))).toBeNull();
  });
});

describe('labelOf', () => {
  it('shows no verifier', () => {
    const sql = `DO $k1$ BEGIN ALTER ROLE "a" PASSWORD 'SCRAM-SHA-256$4096:x'; END $k1$`;
    expect(labelOf({ ...call('postgres', 'Query '), path: sql })).toBe('ALTER ROLE "a"');
  });
});
