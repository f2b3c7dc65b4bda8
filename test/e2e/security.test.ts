import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { request } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { localAudience } from '../../local/identity/identity.ts';
import {
  eventually,
  fromNow,
  type Ground,
  newPassword,
  policyFor,
  type RunningApp,
  seedAdmin,
  seedAlternating,
  startGround,
  targetFor,
  webhookTo,
} from '../support/e2e-world.ts';

// What a caller, a tag or a document may not do. The host lets x-ms-client-principal headers
// through, as Azure does where its own authentication is off.

const name = 'orders-db';
const startPath = `/vaults/main/secrets/${name}/rotations`;
let ground: Ground;
let app: RunningApp;

beforeAll(async () => {
  ground = await startGround();
  await seedAdmin(ground);
  await ground.main.setSecret('webhook-orders', `whsec_${'A'.repeat(44)}`);
  const { hook } = ground;
  app = await ground.startApp({
    flags: ['--pass-client-principal'],
    overrides: {
      // A name on the list that resolves to an address of this machine.
      KEYTURN_WEBHOOK_HOSTS: `${hook.host},localhost:${hook.host.split(':')[1]}`,
    },
  });
  const { logins } = await seedAlternating(ground, name);
  await app.document('targets', name, targetFor(ground, name, logins));
  await app.document('policies', name, policyFor(name));
}, 120_000);

afterAll(async () => {
  await ground?.stop();
}, 60_000);

/** Fails unless nothing was started and no vault was called while `act` ran. */
async function startingNothing<T>(act: () => Promise<T>): Promise<T> {
  const before = await countRotations();
  await ground.forgetVaultCalls();
  const result = await act();
  expect(await ground.vaultCalls()).toEqual([]);
  expect(await countRotations()).toEqual(before);
  return result;
}

async function countRotations() {
  const { json } = await app.call('GET', '/rotations?limit=100');
  return { listed: json.rotations.length, requested: app.log('rotation.requested').length };
}

interface RawAnswer {
  readonly status: number;
  readonly text: string;
}

/** The path and the headers go out as they stand; `fetch` would tidy both. */
function raw(path: string, headers: readonly string[], method = 'POST'): Promise<RawAnswer> {
  const { hostname, port } = new URL(app.host.url);
  const all = ['host', `${hostname}:${port}`, 'content-length', '0', ...headers];
  return new Promise((resolve, reject) => {
    const outgoing = request({ hostname, port, path, method, headers: all }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
      });
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

describe('a caller', () => {
  const roles = ['Keyturn.Rotations.Operate'];

  function issue(claims: Readonly<Record<string, unknown>>): Promise<string> {
    return ground.stack.identity.issueToken({ audience: localAudience, roles, claims });
  }

  function claimsOf(token: string): Record<string, unknown> {
    return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  }

  async function publicKey(): Promise<JsonWebKey & { kid: string }> {
    const answer = await fetch(ground.stack.identity.jwksUri);
    return ((await answer.json()) as { keys: (JsonWebKey & { kid: string })[] }).keys[0]!;
  }

  const unsigned = (header: object, claims: object, signature = '') =>
    [JSON.stringify(header), JSON.stringify(claims)]
      .map((part) => Buffer.from(part).toString('base64url'))
      .concat(signature)
      .join('.');

  const forged: Record<string, () => Promise<string | null>> = {
    'no token': async () => null,
    'a token with a changed signature': async () => {
      const [header, payload, signature = ''] = (await issue({})).split('.');
      const bytes = Buffer.from(signature, 'base64url');
      bytes[20] = (bytes[20] ?? 0) ^ 1;
      return [header, payload, bytes.toString('base64url')].join('.');
    },
    'a token with a changed claim': async () => {
      const [header, , signature] = (await issue({})).split('.');
      const claims = { ...claimsOf(await issue({})), sub: 'somebody-else' };
      return unsigned(JSON.parse(Buffer.from(header!, 'base64url').toString()), claims, signature);
    },
    'a token that says it needs no signature': async () =>
      unsigned({ alg: 'none', typ: 'JWT' }, claimsOf(await issue({}))),
    'a token without a signature': async () =>
      `${(await issue({})).split('.').slice(0, 2).join('.')}.`,
    'an HMAC made with the public key': async () => {
      const jwk = await publicKey();
      const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({
        type: 'spki',
        format: 'pem',
      });
      return new SignJWT(claimsOf(await issue({})))
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT', kid: jwk.kid })
        .sign(Buffer.from(pem));
    },
    'a signature by another key under the right key id': async () => {
      const { privateKey } = await generateKeyPair('RS256');
      return new SignJWT(claimsOf(await issue({})))
        .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: (await publicKey()).kid })
        .sign(privateKey);
    },
    'a signature by a key that the token brings along': async () => {
      const pair = await generateKeyPair('RS256', { extractable: true });
      const jwk = await exportJWK(pair.publicKey);
      return new SignJWT(claimsOf(await issue({})))
        .setProtectedHeader({ alg: 'RS256', typ: 'JWT', jwk })
        .sign(pair.privateKey);
    },
    'an expired token': () => issue({ exp: Math.floor(Date.now() / 1000) - 60 }),
    'a token that does not expire': () => issue({ exp: undefined }),
    'a token that is not valid yet': () => issue({ nbf: Math.floor(Date.now() / 1000) + 3600 }),
    'a token of a foreign issuer': () => issue({ iss: 'https://login.example.com/tenant' }),
    'a token of a foreign tenant': () =>
      issue({ iss: ground.stack.identity.issuer.replace(/[^/]+$/, 'other-tenant') }),
    'a token for a foreign audience': () => issue({ aud: 'https://vault.azure.net' }),
    'a token that tells who logged in': () => issue({ nonce: 'n' }),
    'not a token at all': async () => 'let-me-in',
  };

  it.each(Object.keys(forged))('gets nothing with %s', async (what) => {
    const token = await forged[what]!();
    await startingNothing(async () => {
      for (const [method, path] of [
        ['POST', startPath],
        ['POST', `/vaults/main/secrets/${name}/rotation-plan`],
        ['GET', '/rotations'],
        ['GET', '/health/details'],
      ] as const) {
        const answer = await app.call(method, path, { token });
        expect(answer.status, answer.text).toBe(401);
        expect(answer.json).toMatchObject({ code: 'unauthenticated' });
        expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      }
    });
  });

  it.each([
    ['no role', []],
    ['a role of another kind', ['Keyturn.Health.Read']],
    ['the role that only reads', ['Keyturn.Rotations.Read']],
    ['roles in other spellings', ['keyturn.rotations.operate', 'Keyturn.Rotations.Operate ']],
    ['a role of all', ['*', 'Keyturn', 'Keyturn.Rotations', 'admin']],
  ])('starts nothing with %s', async (_what, held) => {
    const token = await ground.stack.identity.issueToken({ audience: localAudience, roles: held });
    await startingNothing(async () => {
      for (const path of [startPath, `/vaults/main/secrets/${name}/rotation-plan`]) {
        const answer = await app.call('POST', path, { token });
        expect(answer.status, answer.text).toBe(403);
        expect(answer.json).toMatchObject({ code: 'forbidden' });
      }
    });
    const refusals = await app.audit({ action: 'api.start-rotation' });
    expect(refusals.at(-1)).toMatchObject({ outcome: 'refused' });
  });

  it('reads nothing with a role for something else', async () => {
    const token = await ground.token('Keyturn.Health.Read');
    expect((await app.call('GET', '/rotations', { token })).status).toBe(403);
    const other = await ground.token('Keyturn.Rotations.Operate');
    expect((await app.call('GET', '/health/details', { token: other })).status).toBe(403);
  });

  it('is nobody else by saying so in x-ms-client-principal', async () => {
    const claims = [{ typ: 'roles', val: 'Keyturn.Rotations.Operate' }];
    const principal = { auth_typ: 'aad', name_typ: 'name', role_typ: 'roles', claims };
    const headers = {
      'x-ms-client-principal': Buffer.from(JSON.stringify(principal)).toString('base64'),
      'x-ms-client-principal-id': 'admin',
      'x-ms-client-principal-name': 'admin',
      'x-ms-client-principal-idp': 'aad',
      'x-ms-token-aad-access-token': await ground.token('Keyturn.Rotations.Operate'),
    };
    await startingNothing(async () => {
      expect((await app.call('POST', startPath, { token: null, headers })).status).toBe(401);
      const token = await ground.token('Keyturn.Health.Read');
      expect((await app.call('POST', startPath, { token, headers })).status).toBe(403);
    });
  });

  it('gets nothing with two Authorization headers', async () => {
    const token = `Bearer ${await ground.token('Keyturn.Rotations.Operate')}`;
    await startingNothing(async () => {
      for (const [first, second] of [
        [token, token],
        ['Bearer x.y.z', token],
        [token, 'Basic eDp5'],
      ] as const) {
        const headers = ['authorization', first, 'Authorization', second];
        expect((await raw(`/api${startPath}`, headers)).status).toBe(401);
      }
    });
  });

  it('gets nothing with a token anywhere but in the header', async () => {
    const token = await ground.token('Keyturn.Rotations.Operate');
    await startingNothing(async () => {
      const inQuery = await app.call('POST', `${startPath}?access_token=${token}`, { token: null });
      expect(inQuery.status).toBe(401);
      const headers = { cookie: `token=${token}; AppServiceAuthSession=${token}` };
      expect((await app.call('POST', startPath, { token: null, headers })).status).toBe(401);
    });
  });

  it('gets nothing with a header or a body beyond all measure', async () => {
    await startingNothing(async () => {
      const long = await app.call('POST', startPath, { token: `${'a'.repeat(12_000)}.b.c` });
      expect(long.status).toBe(401);
      const authorization = `Bearer ${await ground.token('Keyturn.Rotations.Operate')}`;
      const huge = await raw(`/api${startPath}`, [
        ...['authorization', authorization, 'x-huge', 'x'.repeat(40_000)],
      ]);
      expect(huge.status).toBe(431);
      const body = JSON.stringify({ padding: 'x'.repeat(1_000_000) });
      expect((await app.call('POST', startPath, { body, token: null })).status).toBe(401);
      const answer = await app.call('POST', startPath, { body });
      expect(answer.status).toBe(400);
      expect(answer.text.length).toBeLessThan(1000);
    });
  });

  it.each([
    '/api/vaults/main/secrets/..%2f..%2fpending%2fsecrets%2fpostgres-admin/rotations',
    '/api/vaults/main/secrets/../../pending/secrets/postgres-admin/rotations',
    '/api/vaults/main%2f..%2fpending/secrets/postgres-admin/rotations',
    '/api/vaults/..%5cpending/secrets/postgres-admin/rotations',
    '/api/vaults/%2e%2e/secrets/orders-db/rotations',
    '/api/vaults/main/secrets/%2e/rotations',
    '/api/vaults/main/secrets/orders-db%00/rotations',
    '/api/vaults/main/secrets/orders-db%0a/rotations',
    '/api/vaults/main/secrets/orders-db%20/rotations',
    '/api/vaults/main/secrets/orders-db;v=1/rotations',
    '/api/vaults/main/secrets/orders-db%3fx/rotations',
    '/api/vaults/main/secrets/orders-db%23/rotations',
    '/api/vaults/main/secrets/orders-db%2fversion/rotations',
    '/api/vaults/main/secrets/orders%252ddb/rotations',
    '/api/vaults/main/secrets/%6frders-db%c0%af/rotations',
    '/api/vaults/main/secrets/*/rotations',
    '/api/vaults/*/secrets/orders-db/rotations',
    '/api/vaults/MAIN/secrets/orders-db/rotations',
    '/api/vaults/main:443/secrets/orders-db/rotations',
    '/api/vaults/main@evil.example/secrets/orders-db/rotations',
    '/api/vaults/constructor/secrets/orders-db/rotations',
    '/api/vaults/__proto__/secrets/orders-db/rotations',
    '/api/vaults/pending/secrets/postgres-admin/rotations',
    '/api//vaults/main/secrets/orders-db/rotations',
    '//evil.example/api/vaults/main/secrets/orders-db/rotations',
  ])('reaches nothing by a trick in the path: %s', async (path) => {
    const authorization = `Bearer ${await ground.token('Keyturn.Rotations.Operate')}`;
    await startingNothing(async () => {
      const answer = await raw(path, ['authorization', authorization]);
      expect([400, 404], `${answer.status} ${answer.text}`).toContain(answer.status);
    });
  });

  it('learns nothing of the pending vault from a plan', async () => {
    await startingNothing(async () => {
      const path = '/vaults/pending/secrets/postgres-admin/rotation-plan';
      const { json } = await app.call('POST', path);
      expect(json).toMatchObject({ decision: 'skip', reason: 'unknown_vault', policy: null });
    });
  });
});

describe('a tag', () => {
  it('cannot select a policy that does not list the object', async () => {
    await ground.main.setSecret('tagged', newPassword(), {
      tags: { policy: name, target: name, rotationPolicy: name },
      expiresOn: fromNow(3600),
    });
    const skipped = await app.ended(await app.rotate('tagged'));
    expect(skipped).toMatchObject({ state: 'SKIPPED', outcome: { code: 'no_policy' } });
    expect(await versionsOf('tagged')).toBe(1);
  });

  it('chooses among the policies that do', async () => {
    const generated = { handler: 'generated', target: null, value: { shape: 'raw' } };
    const covers = [{ vault: 'main', type: 'secret', name: 'choice-*' }];
    await app.document('policies', 'choice-a', policyFor('choice-a', { ...generated, covers }));
    await app.document('policies', 'choice-b', policyFor('choice-b', { ...generated, covers }));
    await ground.main.setSecret('choice-none', newPassword());
    await ground.main.setSecret('choice-one', newPassword(), { tags: { policy: 'choice-b' } });
    const none = await app.ended(await app.rotate('choice-none'));
    expect(none).toMatchObject({ state: 'SKIPPED', outcome: { code: 'ambiguous_policy' } });
    const one = await app.ended(await app.rotate('choice-one'));
    expect(one).toMatchObject({ state: 'DONE', policy: 'choice-b' });
  });
});

describe('who writes policies', () => {
  /** Writes it, takes it back, and gives what health says of it meanwhile. */
  async function faultsOf(id: string, policy: object): Promise<string> {
    await app.document('policies', id, policy);
    const token = await ground.token('Keyturn.Health.Read');
    const { status, json } = await app.call('GET', '/health/details', { token });
    expect(status).toBe(503);
    return json.checks.documents.message;
  }

  async function expectNoPolicy(object: string): Promise<void> {
    const skipped = await app.ended(await app.rotate(object));
    expect(skipped).toMatchObject({ state: 'SKIPPED', outcome: { code: 'no_policy' } });
    expect(await versionsOf(object)).toBe(1);
  }

  it.each([
    ['host', { host: 'evil.example' }],
    ['settings', { settings: { host: 'evil.example' } }],
    ['admin', { admin: { vault: 'pending', name: 'postgres-admin', username: 'postgres' } }],
  ])('cannot name the %s', async (field, more) => {
    const object = `redirect-${field}`;
    await ground.main.setSecret(object, newPassword(), { expiresOn: fromNow(3600) });
    const covers = [{ vault: 'main', type: 'secret', name: object }];
    const faults = await faultsOf('redirect', {
      ...policyFor(name, { id: 'redirect', covers }),
      ...more,
    });
    expect(faults).toContain('redirect.json');
    expect(faults).toContain(`"${field}"`);
    await expectNoPolicy(object);
    await app.document(
      'policies',
      'redirect',
      policyFor('gone', { handler: 'generated', target: null }),
    );
  });

  it('cannot use a target for a secret that the target does not list', async () => {
    const object = 'not-of-target';
    await ground.main.setSecret(object, JSON.stringify({ username: 'x', password: 'y' }));
    await app.document('policies', object, policyFor(object, { target: name }));
    await expectNoPolicy(object);
    await app.document(
      'policies',
      object,
      policyFor(object, { handler: 'generated', target: null }),
    );
  });

  it('cannot have an admin secret rotated', async () => {
    await ground.main.setSecret('db-admin', newPassword());
    const target = targetFor(ground, 'guarded', ['guarded_a', 'guarded_b']);
    const admin = { vault: 'main', name: 'db-admin', username: 'postgres' };
    await app.document('targets', 'guarded', { ...target, admin });
    const covers = [{ vault: 'main', type: 'secret', name: 'DB-*' }];
    const value = { shape: 'raw' };
    const policy = policyFor('greedy', { covers, value, handler: 'generated', target: null });
    expect(await faultsOf('greedy', policy)).toMatch(/greedy\.json: covers: .*db-admin/);
    await expectNoPolicy('db-admin');
    await app.document('policies', 'greedy', {
      ...policy,
      covers: [{ ...covers[0], name: 'none' }],
    });
  });

  it('cannot have another secret used as a signing key', async () => {
    const consumer = webhookTo(`${ground.hook.url}/x`);
    const signingSecret = { vault: 'pending', name: 'postgres-admin' };
    const consumers = [{ ...consumer, signingSecret }];
    const policy = policyFor('signs', { consumers });
    expect(await faultsOf('signs', policy)).toMatch(/signs\.json: consumers.*signingSecret/);
    await app.document(
      'policies',
      'signs',
      policyFor('signs', { handler: 'generated', target: null }),
    );
  });
});

describe('a webhook', () => {
  it('goes to listed public hosts only, and a refused one does not hold the rotation', async () => {
    const { hook } = ground;
    hook.answers.set('/moved', { status: 307, location: `${hook.url}/stolen` });
    const port = hook.host.split(':')[1];
    const refused = {
      'not-listed': 'https://collector.example.com/rotated',
      'not-listed-port': 'http://127.0.0.1:1/rotated',
      metadata: 'http://169.254.169.254/metadata/identity/oauth2/token',
      'spelled-otherwise': `http://2130706433:${Number(port) + 1}/rotated`,
      'resolves-to-here': `https://localhost:${port}/rotated`,
      'plain-http-name': `http://localhost:${port}/rotated`,
      moved: `${hook.url}/moved`,
    };
    const consumers = [
      ...Object.entries(refused).map(([id, url]) => webhookTo(url, id)),
      webhookTo(`${hook.url}/told`, 'told'),
    ];
    await ground.main.setSecret('many-consumers', newPassword());
    await app.document(
      'policies',
      'many-consumers',
      policyFor('many-consumers', {
        ...{ handler: 'generated', target: null, value: { shape: 'raw' }, grace: 'PT0S' },
        consumers,
      }),
    );
    const done = await app.ended(await app.rotate('many-consumers'));
    expect(done).toMatchObject({ state: 'DONE', outcome: null });
    const abandoned = await eventually(async () => {
      const records = await app.audit({ rotationId: done.id, action: 'notification.abandon' });
      return new Set(records.map(({ detail }) => detail?.['consumer'])).size >= 7 && records;
    }, app.output);
    expect(new Set(abandoned.map(({ detail }) => detail?.['consumer']))).toEqual(
      new Set(Object.keys(refused)),
    );
    for (const { detail, outcome } of abandoned) {
      expect({ outcome, error: detail?.['error'] }).toEqual({
        outcome: 'failed',
        error: 'consumer_refused',
      });
    }
    await eventually(() => hook.told.some(({ path }) => path === '/told'));
    const paths = new Set(hook.told.map(({ path }) => path));
    expect(paths).toEqual(new Set(['/moved', '/told']));
    for (const line of app.log('notification.abandoned')) {
      expect(line.error).toMatch(/consumer_refused: .+/);
    }
  });
});

async function versionsOf(object: string): Promise<number> {
  return (await Array.fromAsync(ground.main.listPropertiesOfSecretVersions(object))).length;
}
