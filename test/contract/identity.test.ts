import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ManagedIdentityCredential } from '@azure/identity';
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Identity, localAudience, startIdentity } from '../../local/identity/identity.ts';

const resource = 'https://vault.azure.net';

let identity: Identity;
beforeAll(async () => {
  identity = await startIdentity();
});
afterAll(() => identity.stop());

async function get(path: string, headers: Record<string, string> = {}) {
  const response = await fetch(`${identity.url}${path}`, { headers });
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  return { status: response.status, json: (await response.json()) as any };
}

async function postToken(body: unknown) {
  const response = await fetch(`${identity.url}/token`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  return { status: response.status, json: (await response.json()) as any };
}

function verify(token: string, audience: string) {
  const keys = createRemoteJWKSet(new URL(identity.jwksUri));
  return jwtVerify(token, keys, { issuer: identity.issuer, audience, algorithms: ['RS256'] });
}

describe('the managed-identity endpoint', () => {
  const path = `/msi/token?api-version=2019-08-01&resource=${encodeURIComponent(resource)}`;
  const header = () => ({ 'x-identity-header': identity.managedIdentity.header });

  it('gives a verifiable token that lives for at least an hour', async () => {
    const { status, json } = await get(path, header());
    expect(status).toBe(200);
    expect(json).toMatchObject({ resource, token_type: 'Bearer' });
    const { payload } = await verify(json.access_token, resource);
    expect(payload).toMatchObject({
      tid: identity.tenantId,
      idtyp: 'app',
      sub: payload['oid'],
      exp: Number(json.expires_on),
    });
    expect(payload['appid']).toMatch(/^[0-9a-f-]{36}$/);
    expect(payload.exp! - payload.iat!).toBeGreaterThanOrEqual(3600);
    expect(payload.nbf).toBeLessThanOrEqual(payload.iat!);
  });

  it('gives each client_id its own object id, the same every time', async () => {
    const objectId = async (clientId: string) => {
      const { json } = await get(`${path}&client_id=${clientId}`, header());
      const claims = decodeJwt(json.access_token);
      expect(claims['appid']).toBe(clientId);
      return claims['oid'];
    };
    expect(await objectId('api')).toBe(await objectId('api'));
    expect(await objectId('api')).not.toBe(await objectId('engine'));
  });

  it.each([
    [400, path, {}],
    [401, path, { 'x-identity-header': 'wrong' }],
  ])('answers %i without the right header', async (status, target, headers) => {
    expect((await get(target, headers)).status).toBe(status);
  });

  it('answers 400 without resource or with another api-version', async () => {
    expect((await get('/msi/token?api-version=2019-08-01', header())).status).toBe(400);
    expect((await get(path.replace('2019', '2001'), header())).status).toBe(400);
  });

  it('speaks the form of virtual machines too', async () => {
    const imds = `/metadata/identity/oauth2/token/?api-version=2018-02-01&resource=${resource}`;
    const { status, json } = await get(imds, { metadata: 'true' });
    expect([status, decodeJwt(json.access_token).aud]).toEqual([200, resource]);
    expect((await get(imds)).status).toBe(400);
  });

  it('serves the SDK', async () => {
    process.env['IDENTITY_ENDPOINT'] = identity.managedIdentity.endpoint;
    process.env['IDENTITY_HEADER'] = identity.managedIdentity.header;
    try {
      const credential = new ManagedIdentityCredential({ clientId: 'engine' });
      const { token, expiresOnTimestamp } = await credential.getToken(`${resource}/.default`);
      expect(decodeJwt(token)['appid']).toBe('engine');
      expect(expiresOnTimestamp).toBeGreaterThan(Date.now() + 3_600_000);
    } finally {
      delete process.env['IDENTITY_ENDPOINT'];
      delete process.env['IDENTITY_HEADER'];
    }
  });
});

describe('the issuer', () => {
  it('describes itself where OpenID Connect looks', async () => {
    const path = `/${identity.tenantId}/.well-known/openid-configuration`;
    const { json } = await get(path);
    expect(json).toMatchObject({ issuer: identity.issuer, jwks_uri: identity.jwksUri });
    expect(`${identity.issuer}/.well-known/openid-configuration`).toBe(`${identity.url}${path}`);
  });

  it('publishes no private part of its key', async () => {
    const { json } = await get(`/${identity.tenantId}/discovery/v2.0/keys`);
    expect(Object.keys(json.keys[0]).toSorted()).toEqual(['alg', 'e', 'kid', 'kty', 'n', 'use']);
  });

  it('gives callers tokens with roles', async () => {
    const { status, json } = await postToken({ roles: ['Keyturn.Reader'], expiresInSeconds: 60 });
    expect(status).toBe(200);
    const { payload } = await verify(json.access_token, localAudience);
    expect(payload['roles']).toEqual(['Keyturn.Reader']);
    expect(payload.exp! - payload.iat!).toBe(60);
  });

  it('issues what a test asks for, expired and twisted tokens included', async () => {
    const expired = await identity.issueToken({ audience: 'a', expiresInSeconds: -60 });
    await expect(verify(expired, 'a')).rejects.toThrow(/exp/);
    const claims = decodeJwt(
      await identity.issueToken({ audience: 'a', subject: 's', claims: { tid: 'other' } }),
    );
    expect(claims).toMatchObject({ sub: 's', oid: 's', tid: 'other' });
    expect(claims).not.toHaveProperty('roles');
  });

  it.each([
    ['no JSON', '{'],
    ['no roles', {}],
    ['roles that are no list', { roles: 'Reader' }],
    ['an unknown member', { roles: [], role: 'x' }],
    ['a fractional life', { roles: [], expiresInSeconds: 1.5 }],
    ['too long a body', JSON.stringify({ roles: ['x'.repeat(70_000)] })],
  ])('refuses %s', async (_, body) => {
    const { status, json } = await postToken(body);
    expect([status, json.error]).toEqual([400, 'invalid_request']);
  });

  it('answers 404 in JSON for anything else', async () => {
    expect((await get('/token')).status).toBe(404);
    expect((await get('//')).status).toBe(404);
    expect((await get('/constructor')).status).toBe(404);
  });

  it('keeps its key, for its owner only, so that tokens outlive a restart', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    try {
      const first = await startIdentity({ dir });
      const token = await first.issueToken({ audience: 'a' });
      await first.stop();
      const second = await startIdentity({ dir });
      await jwtVerify(token, createRemoteJWKSet(new URL(second.jwksUri)));
      await second.stop();
      expect((await stat(join(dir, 'identity-key.pem'))).mode & 0o777).toBe(0o600);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

describe('npm run token', () => {
  const run = async (...args: string[]) => {
    try {
      const done = await promisify(execFile)(process.execPath, [
        'local/identity/token.ts',
        ...args,
      ]);
      return { code: 0, ...done };
    } catch (error) {
      return error as { code: number; stdout: string; stderr: string };
    }
  };

  it('prints the token alone', async () => {
    const { stdout, stderr } = await run(
      'Keyturn.Admin',
      '--url',
      identity.url,
      '--audience',
      'api://x',
    );
    const { payload } = await verify(stdout.trim(), 'api://x');
    expect([payload['roles'], stderr]).toEqual([['Keyturn.Admin'], '']);
  });

  it('says in one line what is wrong', async () => {
    const away = await run('Role', '--url', 'http://127.0.0.1:9');
    expect([away.code, away.stdout]).toEqual([1, '']);
    expect(away.stderr).toMatch(/^No local identity answers at http:\/\/127\.0\.0\.1:9; .+\n$/);
    const unknown = await run('--nonsense');
    expect([unknown.code, unknown.stdout]).toEqual([2, '']);
    expect(unknown.stderr.trim().split('\n')).toHaveLength(1);
  });
});
