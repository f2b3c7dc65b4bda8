import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SecretClient } from '@azure/keyvault-secrets';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { identityNamed } from '../../local/identity/tokens.ts';
import type { KeyVaultEmulator, VaultEvent } from '../../local/key-vault/key-vault.ts';
import { eventually, type Ground, prepareGround } from './emulator-client.ts';
import { type Control, collect, controlOf, refusal, urlOf } from './emulator-control.ts';

const version = 'api-version=2026-04-01';
const audience = 'https://vault.azure.net';
/** What the SDK's tokens are issued for: the managed identity of the ground. */
const self = identityNamed('keyturn');
const prefix = 'Microsoft.KeyVault/vaults/';

let ground: Ground;
let emulator: KeyVaultEmulator;
let control: Control;
let url: string;
let client: SecretClient;
const events: VaultEvent[] = [];

beforeAll(async () => {
  ground = await prepareGround();
  emulator = await ground.startVaults({
    vaults: [{ name: 'main', httpPort: 0 }, { name: 'other' }],
    onEvent: (event) => events.push(event),
  });
  control = controlOf(emulator);
  url = urlOf(emulator);
  client = ground.secretClient(url);
  await client.setSecret('kept', 'v');
});
afterEach(() => control('POST', '/reset'));
afterAll(() => ground.stop());

function turn(switches: unknown, vault = 'main') {
  return control('PATCH', `/vaults/${vault}/switches`, switches);
}

function get(path: string, wish: Parameters<Ground['call']>[1] = {}) {
  const separator = path.includes('?') ? '&' : '?';
  return ground.call(`${url}${path}${separator}${version}`, wish);
}

describe('the switches', () => {
  it('are all in the status, and as they were at the start after a reset', async () => {
    const before = (await control('GET', '/status')).json;
    const changed = {
      readOnly: true,
      purgeProtection: true,
      subscriptionId: 'elsewhere',
      geography: 'moon',
      access: { enforced: true, assignments: [] },
      firewall: { defaultAction: 'Deny' },
      throttling: { enabled: true },
      latency: { kind: 'fixed', ms: 1 },
      delays: { deleteSeconds: 1 },
      issuance: { delaySeconds: 1 },
      emptyPages: 1,
    };
    expect(Object.keys(changed).toSorted()).toEqual(
      Object.keys(before.vaults[0].switches).toSorted(),
    );
    const { status, json } = await turn(changed);
    expect(status).toBe(200);
    expect(json).toMatchObject(changed);
    await control('POST', '/faults', { fault: { kind: 'reset' } });
    await control('POST', '/revocations', {});
    await control('PUT', '/challenge', { style: 'scope' });
    await control('POST', '/clock/advance', { seconds: 3600 });
    const during = (await control('GET', '/status')).json;
    expect(during.vaults[0].switches).toEqual(json);
    expect(during).toMatchObject({ faults: 1, revocations: 1, challenge: 'scope' });
    expect(during.vaults[0].mode).toBe('read-only');
    const after = (await control('POST', '/reset')).json;
    expect(after.vaults[0].switches).toEqual(before.vaults[0].switches);
    expect(after).toMatchObject({ faults: 0, revocations: 0, challenge: 'resource' });
    expect(Math.abs(after.clock.offsetMs)).toBeLessThan(100);
    expect((await client.getSecret('kept')).value).toBe('v');
  });

  it.each([
    ['an unknown switch', { nonsense: 1 }, 'nonsense'],
    ['an unknown member', { firewall: { defaultAction: 'Deny', nonsense: 1 } }, 'firewall'],
    ['a wrong type', { readOnly: 'yes' }, 'readOnly'],
    ['no address', { firewall: { ipRules: ['10.0.0.0/33'] } }, 'firewall.ipRules[0]'],
    ['no distribution', { latency: { kind: 'normal' } }, 'latency.kind'],
    [
      'falling percentiles',
      { latency: { kind: 'percentiles', points: { 50: 9, 100: 1 } } },
      'points',
    ],
    [
      'neither role nor actions',
      { access: { enforced: true, assignments: [{ principalId: '*' }] } },
      'access.assignments[0]',
    ],
    [
      'no role',
      { access: { enforced: true, assignments: [{ principalId: '*', role: 'King' }] } },
      'access.assignments[0].role',
    ],
    ['a limit of nothing', { throttling: { enabled: true, limits: { other: 0 } } }, 'limits.other'],
  ])('refuse %s and name where it is', async (_, switches, path) => {
    const before = (await control('GET', '/vaults/main/switches')).json;
    const { status, json } = await turn(switches);
    expect(status).toBe(400);
    expect(json.error.message).toContain(path);
    expect((await control('GET', '/vaults/main/switches')).json).toEqual(before);
  });

  it.each([
    ['PATCH', '/vaults/none/switches', {}, 404],
    ['PATCH', '/vaults/main/switches', undefined, 400],
    ['PUT', '/clock', { now: 'tomorrow' }, 400],
    ['PUT', '/clock', { now: '9999-12-31T00:00:00Z' }, 400],
    ['POST', '/clock/advance', { seconds: -1 }, 400],
    ['POST', '/clock/advance', { seconds: 1, days: 1 }, 400],
    ['POST', '/revocations', { name: 'x' }, 400],
    ['PUT', '/challenge', { style: 'both' }, 400],
    ['PUT', '/state', { format: 1, vaults: {} }, 400],
  ])('refuse %s %s %j', async (method, path, body, status) => {
    const reply = await control(method, path, body);
    expect(reply.status).toBe(status);
    expect(typeof reply.json.error.message).toBe('string');
  });
});

describe('access control', () => {
  const allow = (assignment: object, enforced = true) =>
    turn({ access: { enforced, assignments: [{ principalId: self.objectId, ...assignment }] } });

  it('refuses in the words of the service', async () => {
    await turn({ access: { enforced: true } });
    const { objectId, appId } = self;
    expect(await refusal(client.getSecret('kept'))).toEqual({
      code: 'Forbidden',
      statusCode: 403,
      message: `Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: appid=${appId};oid=${objectId};iss=${ground.identity.issuer}\r\nAction: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nResource: '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/local/providers/microsoft.keyvault/vaults/main/secrets/kept'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: main;location=local\r\n`,
      inner: 'ForbiddenByRbac',
    });
    // The SDK hides why a list is refused.
    const listing = await get('/secrets');
    expect(listing.json.error.message).toContain("/vaults/main'\r\nAssignment");
    const other = ground.secretClient(urlOf(emulator, 'other'));
    expect((await refusal(other.getSecret('kept')))?.statusCode).toBe(404);
  });

  it('comes after authentication, and before anything about the object', async () => {
    await turn({ access: { enforced: true } });
    expect((await get('/secrets/absent', { token: null })).status).toBe(401);
    expect((await get('/secrets/absent')).status).toBe(403);
    expect((await get('/nowhere')).status).toBe(404);
  });

  it.each([
    ['the action', { dataActions: [`${prefix}secrets/getSecret/action`] }, [200, 403]],
    ['a wildcard', { dataActions: [`${prefix}secrets/*`] }, [200, 200]],
    ['a wildcard in the middle', { dataActions: [`${prefix}*/getSecret/action`] }, [200, 403]],
    ['another case', { dataActions: ['Microsoft.KeyVault/vaults/SECRETS/*'] }, [200, 200]],
    [
      'all but one',
      {
        dataActions: [`${prefix}*`],
        notDataActions: [`${prefix}secrets/getSecret/action`],
      },
      [403, 200],
    ],
    ['a role', { role: 'Key Vault Secrets User' }, [200, 403]],
    ['an officer', { role: 'Key Vault Secrets Officer' }, [200, 200]],
    ['a reader', { role: 'Key Vault Reader' }, [403, 403]],
    ['a role for keys', { role: 'Key Vault Crypto Officer' }, [403, 403]],
    ['this object', { role: 'Key Vault Administrator', scope: '/secrets/KEPT' }, [200, 200]],
    ['another object', { role: 'Key Vault Administrator', scope: '/secrets/kep' }, [403, 403]],
    ['everybody', { principalId: '*', role: 'Key Vault Administrator' }, [200, 200]],
    ['the application', { principalId: self.appId, role: 'Key Vault Administrator' }, [200, 200]],
    ['somebody else', { principalId: 'other', role: 'Key Vault Administrator' }, [403, 403]],
  ])('knows %s', async (_, assignment, [reading, writing]) => {
    await allow(assignment);
    const status = async (call: Promise<unknown>) => (await refusal(call))?.statusCode ?? 200;
    expect(await status(client.getSecret('kept'))).toBe(reading);
    expect(await status(client.updateSecretProperties('kept', '', { tags: {} }))).toBe(writing);
  });

  it('needs list rights for the whole vault: those for one object do not do', async () => {
    await allow({ role: 'Key Vault Administrator', scope: '/secrets/kept' });
    expect((await refusal(collect(client.listPropertiesOfSecrets())))?.statusCode).toBe(403);
    expect(await collect(client.listPropertiesOfSecretVersions('kept'))).toHaveLength(1);
    await allow({ role: 'Key Vault Reader' });
    expect(await collect(client.listPropertiesOfSecrets())).not.toEqual([]);
  });

  it('lets a caller do everything again when it is off, and tells of the change', async () => {
    const changes = () => events.filter(({ eventType }) => eventType.endsWith('PolicyChanged'));
    const before = changes().length;
    await allow({ role: 'Key Vault Reader' });
    await allow({ role: 'Key Vault Secrets User' });
    await allow({ role: 'Key Vault Reader' }, false);
    expect((await client.getSecret('kept')).value).toBe('v');
    await eventually(() => (changes().length === before + 2 ? true : undefined));
    expect(changes().at(-1)).toMatchObject({
      subject: 'main',
      eventType: 'Microsoft.KeyVault.VaultAccessPolicyChanged',
      data: { Id: url, VaultName: 'main', ObjectType: 'Vault', ObjectName: 'main' },
    });
    const again = await control('POST', '/vaults/main/events/republish', {
      type: 'VaultAccessPolicyChanged',
    });
    expect(again.json.subject).toBe('main');
  });
});

describe('the firewall', () => {
  it('refuses in the words of the service', async () => {
    await turn({ firewall: { defaultAction: 'Deny' } });
    const caller = `appid=${self.appId};oid=${self.objectId};iss=${ground.identity.issuer}`;
    expect(await refusal(client.getSecret('kept'))).toEqual({
      code: 'Forbidden',
      statusCode: 403,
      message: `Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1\r\nCaller: ${caller}\r\nVault: main;location=local`,
      inner: 'ForbiddenByFirewall',
    });
    await turn({ firewall: { publicNetworkAccess: 'Disabled' } });
    expect(await refusal(client.getSecret('kept'))).toMatchObject({
      message: `Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\nCaller: ${caller}\r\nVault: main;location=local`,
      inner: 'ForbiddenByConnection',
    });
    expect((await get('/secrets/kept', { token: null })).status).toBe(401);
  });

  it.each([
    [['127.0.0.0/8'], undefined, 200],
    [['127.0.0.1'], undefined, 200],
    [['10.1.0.0/16'], '10.1.255.255', 200],
    [['10.1.0.0/16'], '10.2.0.0', 403],
    [['10.1.0.0/16', '192.0.2.7'], '192.0.2.7', 200],
    [['2001:db8::/32'], '2001:db8::1', 200],
    [['2001:db8::/32'], '10.0.0.1', 403],
  ])('takes rules %j for a caller at %s', async (ipRules, clientAddress, status) => {
    await turn({
      firewall: { defaultAction: 'Deny', ipRules, ...(clientAddress ? { clientAddress } : {}) },
    });
    expect((await get('/secrets/kept')).status).toBe(status);
  });
});

describe('revocation', () => {
  it('asks for claims, and is content with a token that is younger', async () => {
    const claims: (string | undefined)[] = [];
    const credential = {
      getToken: async (_: string | string[], options?: { claims?: string }) => {
        claims.push(options?.claims);
        const token = await ground.identity.issueToken({ audience });
        return { token, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    };
    const own = new SecretClient(url, credential, {
      disableChallengeResourceVerification: true,
      retryOptions: { maxRetries: 0 },
      tlsOptions: { ca: ground.ca.caPem },
    });
    await own.getSecret('kept');
    const { json } = await control('POST', '/revocations', {});
    expect((await own.getSecret('kept')).value).toBe('v');
    expect(claims.slice(0, -1).every((one) => one === undefined)).toBe(true);
    expect(JSON.parse(claims.at(-1)!)).toEqual({
      access_token: {
        nbf: { essential: true, value: String(Math.floor(json.at / 1000)) },
        xms_caeerror: { value: '10012' },
      },
    });
    expect((await control('GET', '/revocations')).json.value).toEqual([json]);
  });

  it('is of one identity only, and can be taken back', async () => {
    const token = await ground.identity.issueToken({ audience, subject: 'one', appId: 'two' });
    expect((await get('/secrets/kept', { token })).status).toBe(200);
    await control('POST', '/revocations', { objectId: 'one' });
    expect((await client.getSecret('kept')).value).toBe('v');
    const refused = await get('/secrets/kept', { token });
    expect([refused.status, refused.json.error.code]).toEqual([401, 'Unauthorized']);
    expect(refused.headers['www-authenticate']).toMatch(
      /^Bearer realm="", authorization_uri="https:\/\/login\.microsoftonline\.com\/common\/oauth2\/authorize", error="insufficient_claims", claims="[A-Za-z0-9+/]+=*"$/,
    );
    await control('DELETE', '/revocations');
    expect((await get('/secrets/kept', { token })).status).toBe(200);
    await control('POST', '/revocations', { appId: 'two' });
    expect((await get('/secrets/kept', { token })).status).toBe(401);
    const younger = await ground.identity.issueToken({ audience, subject: 'one', appId: 'two' });
    expect((await get('/secrets/kept', { token: younger })).status).toBe(200);
  });
});

describe('tokens', () => {
  it.each([
    ['of the first version', {}],
    ['for the resource with a slash', { aud: `${audience}/` }],
    [
      'of the second version',
      { aud: 'cfa8b339-82a2-471a-a3c9-0fc0be7a4093', ver: '2.0', azp: 'app', appid: undefined },
    ],
  ])('%s are accepted, as Bearer and as PoP', async (_, claims) => {
    const { issuer } = ground.identity;
    const iss = 'ver' in claims ? { iss: `${issuer}/v2.0` } : {};
    const token = await ground.identity.issueToken({ audience, claims: { ...claims, ...iss } });
    for (const scheme of ['Bearer', 'bearer', 'PoP', 'mtls_pop']) {
      const headers = { authorization: `${scheme} ${token}` };
      expect((await get('/secrets/kept', { token: null, headers })).status).toBe(200);
    }
    const basic = { authorization: `Basic ${token}` };
    expect((await get('/secrets/kept', { token: null, headers: basic })).status).toBe(401);
  });

  it('are taken out of a request that was signed with the key they are bound to', async () => {
    const [own, foreign] = await Promise.all([generateKeyPair('ES256'), generateKeyPair('ES256')]);
    const jwk = await exportJWK(own.publicKey);
    const kid = await calculateJwkThumbprint(jwk);
    const at = await ground.identity.issueToken({ audience, claims: { cnf: { kid } } });
    const statusOf = async (signer: typeof own.privateKey, key: JWK) => {
      const proof = await new SignJWT({ at, cnf: { jwk: key }, m: 'GET' })
        .setProtectedHeader({ alg: 'ES256', typ: 'pop', kid })
        .sign(signer);
      const headers = { authorization: `PoP ${proof}` };
      return (await get('/secrets/kept', { token: null, headers })).status;
    };
    expect(await statusOf(own.privateKey, jwk)).toBe(200);
    expect(await statusOf(foreign.privateKey, jwk)).toBe(401);
    expect(await statusOf(foreign.privateKey, await exportJWK(foreign.publicKey))).toBe(401);
    expect(await statusOf(own.privateKey, { kty: 'EC' })).toBe(401);
  });

  it('are no longer accepted once they end, though they were before', async () => {
    const token = await ground.identity.issueToken({ audience, expiresInSeconds: 2 });
    expect((await get('/secrets/kept', { token })).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const ended = await get('/secrets/kept', { token });
    expect([ended.status, ended.json.error.message]).toEqual([
      401,
      "[TokenExpired] Error validating token: 'S2S12086'.",
    ]);
  });

  it('are asked for by scope where the challenge names one', async () => {
    await control('PUT', '/challenge', { style: 'scope' });
    const { headers } = await get('/secrets/kept', { token: null });
    expect(headers['www-authenticate']).toMatch(
      /^Bearer authorization="https:\/\/login\.microsoftonline\.com\/[0-9a-f-]{36}", scope="https:\/\/vault\.azure\.net\/\.default"$/,
    );
    expect((await ground.secretClient(url).getSecret('kept')).value).toBe('v');
  });

  it('are refused once for no reason, which the SDK survives', async () => {
    await control('POST', '/faults', { fault: { kind: 'status', status: 401 } });
    const refused = await get('/secrets/kept');
    expect([refused.status, refused.json.error.message]).toEqual([
      401,
      'AKV10046: Unable to resolve the key used for signature validation.',
    ]);
    await control('POST', '/faults', { fault: { kind: 'status', status: 401 } });
    expect((await client.getSecret('kept')).value).toBe('v');
  });
});

describe('throttling', () => {
  const gets = (count: number) =>
    Promise.all(Array.from({ length: count }, async () => (await get('/secrets/kept')).status));
  const count = (statuses: number[], status: number) =>
    statuses.filter((one) => one === status).length;

  it('admits as many calls as the limit says, until the window is over', async () => {
    await control('PUT', '/clock', { now: '2030-01-01T00:00:00Z' });
    await turn({ throttling: { enabled: true, limits: { other: 5 } } });
    expect(count(await gets(8), 429)).toBe(3);
    const refused = await get('/secrets/kept');
    expect([refused.status, refused.json.error]).toEqual([
      429,
      {
        code: 'Throttled',
        message:
          'Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached',
      },
    ]);
    expect(refused.headers).not.toHaveProperty('retry-after');
    await client.setSecret('in-another-bucket', 'v');
    await control('POST', '/clock/advance', { seconds: 10 });
    expect(count(await gets(5), 200)).toBe(5);
  });

  it('weighs calls by the key that they use or make', async () => {
    await control('PUT', '/clock', { now: '2030-01-01T00:00:00Z' });
    const create = (name: string, kty: string) =>
      get(`/keys/${name}/create`, { method: 'POST', body: { kty } });
    await create('software', 'EC');
    await create('hardware', 'EC-HSM');
    const limits = { softwareKey: { other: 2 }, hsmKey: { other: 1 }, hsmKeyCreate: 1 };
    await turn({ throttling: { enabled: true, limits } });
    const use = async (name: string) => (await get(`/keys/${name}`)).status;
    expect([await use('software'), await use('software'), await use('software')]).toEqual([
      200, 200, 429,
    ]);
    expect([await use('hardware'), await use('hardware')]).toEqual([200, 429]);
    const made = [await create('one', 'EC-HSM'), await create('two', 'EC-HSM')];
    expect(made.map(({ status }) => status)).toEqual([200, 429]);
    expect((await create('three', 'EC')).status).toBe(200);
    expect(count(await gets(3), 200)).toBe(3);
  });

  it('sums the vaults of a subscription, and tells when to come back where it shall', async () => {
    await control('PUT', '/clock', { now: '2030-01-01T00:00:00Z' });
    const throttling = {
      enabled: true,
      subscriptionFactor: 1.5,
      retryAfterSeconds: 7,
      limits: { other: 4 },
    };
    await turn({ throttling });
    await turn({ throttling }, 'other');
    expect(count(await gets(4), 200)).toBe(4);
    const there = (index: number) =>
      ground.call(`${urlOf(emulator, 'other')}/secrets?${version}&maxresults=${index + 1}`);
    const replies = await Promise.all([0, 1, 2].map(there));
    expect(replies.map(({ status }) => status).toSorted()).toEqual([200, 200, 429]);
    const refused = replies.find(({ status }) => status === 429)!;
    expect(refused.headers['retry-after']).toBe('7');
    expect(refused.json.error.message).toContain('SubscriptionRequestTypeLimitReached');
    await turn({ subscriptionId: 'of-its-own' }, 'other');
    expect((await there(0)).status).toBe(200);
  });
});

describe('latency', () => {
  async function timesOf(latency: object, count: number): Promise<number[]> {
    await turn({ latency });
    const times: number[] = [];
    for (let index = 0; index < count; index += 1) {
      const start = performance.now();
      await get('/secrets/kept');
      times.push(performance.now() - start);
    }
    await turn({ latency: { kind: 'none' } });
    return times;
  }

  it.each([
    ['fixed', { kind: 'fixed', ms: 40 }, 39],
    ['uniform', { kind: 'uniform', minMs: 30, maxMs: 40 }, 29],
    ['lognormal', { kind: 'lognormal', medianMs: 40, p99Ms: 44 }, 33],
    ['percentiles', { kind: 'percentiles', points: { 0: 30, 50: 35, 100: 40 } }, 29],
  ])('is %s', async (_, latency, least) => {
    for (const time of await timesOf(latency, 5)) expect(time).toBeGreaterThan(least);
  });
});

describe('explicit faults', () => {
  it('empty the body of an error, which the SDK does not survive', async () => {
    await control('POST', '/faults', { times: 2, fault: { kind: 'empty-body' } });
    const reply = await get('/secrets/kept');
    expect([reply.status, reply.text]).toEqual([503, '']);
    expect(reply.headers['content-length']).toBe('0');
    await expect(client.getSecret('kept')).rejects.toThrow(TypeError);
  });

  it('let the body come slowly, whole all the same', async () => {
    await control('POST', '/faults', { fault: { kind: 'slow-body', ms: 150 } });
    const start = performance.now();
    const reply = await get('/secrets/kept');
    expect(performance.now() - start).toBeGreaterThan(130);
    expect([reply.status, reply.json.value]).toEqual([200, 'v']);
  });
});

describe('fault rules', () => {
  const fault = { kind: 'reset' };

  it.each([
    ['operation', { operation: 'readSecret' }],
    ['operation', { operation: 'getsecret' }],
    ['vault', { vault: 'nobody' }],
  ])('that could never come to be used are refused: %s in %j', async (member, rule) => {
    const { status, json } = await control('POST', '/faults', { ...rule, fault });
    expect(status).toBe(400);
    expect(json.error.message).toContain(`at ${member}`);
    expect((await control('GET', '/faults')).json.value).toEqual([]);
  });

  it.each([[{}], [{ operation: '*' }], [{ operation: 'rotateKey', vault: 'other' }]])(
    'that could are taken: %j',
    async (rule) => {
      expect((await control('POST', '/faults', { ...rule, fault })).status).toBe(201);
    },
  );
});

describe('api-versions', () => {
  const status = async (apiVersion: string) =>
    (await ground.call(`${url}/secrets?api-version=${apiVersion}`)).status;

  it.each([
    ...['7.0', '7.1', '7.2', '7.3', '7.4', '7.5', '7.6', '2025-07-01', '2026-04-01'],
    ...['7.1-preview', '7.3-preview', '7.4-preview.1', '7.5-preview.1', '7.6-preview.2'],
    ...['2025-06-01-preview', '2025-07-01-preview', '2026-01-01-preview'],
  ])('%s is served', async (apiVersion) => {
    expect(await status(apiVersion)).toBe(200);
  });

  it.each([
    ...['2016-10-02', '7.7', '7.0-preview', '7.4-preview', '7.6-preview.3', '7.6-Preview.2'],
    ...['2025-06-01', '2025-06-09', '2025-07-02', '2025-07-09-preview', '2026-99-99-preview'],
  ])('%s never was one', async (apiVersion) => {
    expect(await status(apiVersion)).toBe(400);
  });
});

describe('deletion and recovery that take their time', () => {
  it('answer 404 first and 409 meanwhile, until the clock has come so far', async () => {
    await client.setSecret('slow', 'v');
    await turn({ delays: { deleteSeconds: 30, recoverSeconds: 60, purgeSeconds: 90 } });
    const conflict = (inner: string, message: string) => ({
      code: 'Conflict',
      statusCode: 409,
      message,
      inner,
    });
    const deleting = conflict('ObjectIsBeingDeleted', 'Secret is currently being deleted.');
    await client.beginDeleteSecret('slow', { intervalInMs: 1 });
    expect((await refusal(client.getDeletedSecret('slow')))?.statusCode).toBe(404);
    expect((await refusal(client.getSecret('slow')))?.statusCode).toBe(404);
    expect(await refusal(client.setSecret('slow', 'w'))).toEqual(deleting);
    expect(await refusal(client.purgeDeletedSecret('slow'))).toEqual(deleting);
    expect(await collect(client.listDeletedSecrets())).toEqual([]);
    await control('POST', '/clock/advance', { seconds: 30 });
    expect((await client.getDeletedSecret('slow')).name).toBe('slow');
    expect((await refusal(client.setSecret('slow', 'w')))?.inner).toBe(
      'ObjectIsDeletedButRecoverable',
    );

    await client.beginRecoverDeletedSecret('slow', { intervalInMs: 1 });
    expect((await refusal(client.getSecret('slow')))?.statusCode).toBe(404);
    expect(await refusal(client.setSecret('slow', 'w'))).toEqual(
      conflict(
        'ObjectIsBeingRecovered',
        'Secret slow is currently being recovered and cannot be re-created; retry later.',
      ),
    );
    expect((await refusal(client.backupSecret('slow')))?.statusCode).toBe(404);
    const listed = await collect(client.listPropertiesOfSecrets());
    expect(listed.map(({ name }) => name)).not.toContain('slow');
    await control('POST', '/clock/advance', { seconds: 60 });
    expect((await client.getSecret('slow')).value).toBe('v');

    await client.beginDeleteSecret('slow', { intervalInMs: 1 });
    await control('POST', '/clock/advance', { seconds: 30 });
    await client.purgeDeletedSecret('slow');
    expect(await refusal(client.setSecret('slow', 'w'))).toEqual(deleting);
    await control('POST', '/clock/advance', { seconds: 90 });
    expect((await client.setSecret('slow', 'w')).value).toBe('w');
  });

  it('are waited for by the pollers', async () => {
    await client.setSecret('polled', 'v');
    await turn({ delays: { deleteSeconds: 0.2, recoverSeconds: 0.2 } });
    const deleting = await client.beginDeleteSecret('polled', { intervalInMs: 20 });
    expect(deleting.getOperationState().isCompleted).toBeFalsy();
    await deleting.pollUntilDone();
    const recovering = await client.beginRecoverDeletedSecret('polled', { intervalInMs: 20 });
    expect(recovering.getOperationState().isCompleted).toBeFalsy();
    await recovering.pollUntilDone();
    expect((await client.getSecret('polled')).value).toBe('v');
  });
});

describe('empty pages', () => {
  it('come before every page, and clients find everything all the same', async () => {
    const other = ground.secretClient(urlOf(emulator, 'other'));
    for (const name of ['a', 'b', 'c']) await other.setSecret(name, 'v');
    await other.setSecret('a', 'w');
    await turn({ emptyPages: 2 }, 'other');
    const pages = await collect(other.listPropertiesOfSecrets().byPage({ maxPageSize: 2 }));
    expect(pages.map((page) => page.length)).toEqual([0, 0, 2, 0, 0, 1]);
    const names = await collect(other.listPropertiesOfSecrets());
    expect(names.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    expect(await collect(other.listPropertiesOfSecretVersions('a'))).toHaveLength(2);
    expect(await collect(other.listPropertiesOfSecretVersions('none'))).toEqual([]);
  });
});

describe('the clock', () => {
  it('moves what is written, events and the end of the retention', async () => {
    const start = '2030-06-01T00:00:00.000Z';
    await control('PUT', '/clock', { now: start });
    const expiresOn = new Date('2030-09-01T00:00:00Z');
    const { properties } = await client.setSecret('aging', 'v', { expiresOn });
    expect(properties.createdOn!.toISOString().slice(0, 16)).toBe('2030-06-01T00:00');
    await control('POST', '/clock/advance', { seconds: 100 * 86_400 });
    const about = events.filter(({ data }) => data.ObjectName === 'aging');
    expect(about.map(({ eventType, eventTime }) => [eventType, eventTime.slice(0, 16)])).toEqual([
      ['Microsoft.KeyVault.SecretNewVersionCreated', '2030-06-01T00:00'],
      ['Microsoft.KeyVault.SecretNearExpiry', '2030-08-02T00:00'],
      ['Microsoft.KeyVault.SecretExpired', '2030-09-01T00:00'],
    ]);

    await turn({ purgeProtection: true });
    await client.beginDeleteSecret('aging');
    expect((await refusal(client.purgeDeletedSecret('aging')))?.statusCode).toBe(403);
    await control('POST', '/clock/advance', { seconds: 90 * 86_400 - 5 });
    expect((await client.getDeletedSecret('aging')).name).toBe('aging');
    await control('POST', '/clock/advance', { seconds: 10 });
    expect((await refusal(client.getDeletedSecret('aging')))?.statusCode).toBe(404);
    expect(await collect(client.listDeletedSecrets())).toEqual([]);
    await client.setSecret('aging', 'anew');
    expect(await collect(client.listPropertiesOfSecretVersions('aging'))).toHaveLength(1);
  });
});

describe('a stop while the clock is on its way', () => {
  it('ends the way: nothing happens afterwards', async () => {
    const made: string[] = [];
    const travelling = await ground.startVaults({
      onEvent: ({ eventType }) => made.push(eventType),
    });
    const policy = {
      issuer: { name: 'Self' },
      key_props: { kty: 'EC' },
      x509_props: { subject: 'CN=x', validity_months: 1 },
      lifetime_actions: [
        { trigger: { lifetime_percentage: 80 }, action: { action_type: 'AutoRenew' } },
      ],
    };
    for (const name of ['one', 'two', 'three', 'four']) {
      const path = `/certificates/${name}/create?${version}`;
      await ground.call(`${urlOf(travelling)}${path}`, { method: 'POST', body: { policy } });
    }
    const hundredYears = { seconds: 100 * 365 * 86_400 };
    const broken = controlOf(travelling)('POST', '/clock/advance', hundredYears).then(
      () => 'answered',
      () => 'broken off',
    );
    await eventually(() => (made.length > 20 ? true : undefined));
    await travelling.stop();
    expect(await broken).toBe('broken off');
    // What was being done may end.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = made.length;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(made).toHaveLength(before);
  });
});

describe('the audit log', () => {
  it('is as the table AZKVAuditLogs has it', async () => {
    await control('DELETE', '/audit');
    await turn({
      access: {
        enforced: true,
        assignments: [{ id: 'mine', principalId: '*', role: 'Key Vault Secrets User' }],
      },
    });
    const headers = { 'x-ms-client-request-id': 'b9f7', 'user-agent': 'tester/1' };
    const read = await get('/secrets/kept', { headers });
    await get('/secrets/kept', { method: 'DELETE' });
    await get('/secrets/kept', { token: null });
    const { json } = await control('GET', '/audit/AZKVAuditLogs');
    const [got, deleted, anonymous] = json.value.filter(
      (row: { CallerIpAddress?: string }) => row.CallerIpAddress,
    );
    expect(got).toEqual({
      TimeGenerated: expect.stringMatching(/^20.+Z$/),
      OperationName: 'SecretGet',
      OperationVersion: '2026-04-01',
      ResultType: 'Success',
      ResultSignature: 'OK',
      HttpStatusCode: 200,
      DurationMs: expect.any(Number),
      CallerIpAddress: '127.0.0.1',
      IsAddressAuthorized: true,
      AddressAuthorizationType: 'PublicIP',
      ClientInfo: 'tester/1',
      CorrelationId: 'b9f7',
      RequestUri: `${url}/secrets/kept?${version}`,
      Tlsversion: 'TLS1_3',
      IsRbacAuthorized: true,
      AppliedAssignmentId: 'mine',
      Id: read.json.id,
      Identity: { claim: { oid: expect.any(String), appid: expect.any(String) } },
      _ResourceId:
        '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/local/providers/microsoft.keyvault/vaults/main',
      _SubscriptionId: '00000000-0000-0000-0000-000000000000',
      SourceSystem: 'Azure',
      Type: 'AZKVAuditLogs',
    });
    expect(deleted).toMatchObject({
      OperationName: 'SecretDelete',
      ResultSignature: 'Forbidden',
      ResultDescription: expect.stringContaining('not authorized'),
      HttpStatusCode: 403,
      IsRbacAuthorized: false,
      Id: `${url}/secrets/kept`,
      CorrelationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(anonymous).toMatchObject({
      OperationName: 'Authentication',
      ResultSignature: 'Unauthorized',
      HttpStatusCode: 401,
    });
    expect(anonymous).not.toHaveProperty('Identity');
  });

  it('names the events that were sent, and can be asked for one vault, operation or object', async () => {
    await control('DELETE', '/audit');
    await control('POST', '/vaults/other/events/republish', { type: 'VaultAccessPolicyChanged' });
    await get('/secrets/kept');
    await get('/secrets/absent');
    await eventually(async () => undefined, 0).catch(() => undefined);
    const rows = async (query: string) =>
      (await control('GET', `/audit/AZKVAuditLogs?${query}`)).json.value.map(
        (row: { OperationName: string; HttpStatusCode: number }) => [
          row.OperationName,
          row.HttpStatusCode,
        ],
      );
    expect(await rows('vault=other')).toEqual([
      ['VaultAccessPolicyChangedEventGridNotification', 200],
    ]);
    expect(await rows('object=absent')).toEqual([['SecretGet', 404]]);
    expect(await rows('operation=getSecret')).toHaveLength(2);
    const brief = (await control('GET', '/audit')).json.value;
    expect(brief).toHaveLength(2);
  });
});

describe('events', () => {
  it('are of ten types', async () => {
    const make = (method: string, path: string, body: unknown) => get(path, { method, body });
    const policy = {
      issuer: { name: 'Self' },
      key_props: { kty: 'EC', crv: 'P-256', exportable: true, reuse_key: false },
      x509_props: { subject: 'CN=x' },
    };
    await make('POST', '/keys/told/create', { kty: 'EC' });
    await make('PUT', '/secrets/told', { value: 'v' });
    await make('POST', '/certificates/told-of/create', { policy });
    const subjects = { Secret: 'told', Key: 'told', Certificate: 'told-of' };
    const kinds = ['NewVersionCreated', 'NearExpiry', 'Expired'];
    const types = Object.entries(subjects).flatMap(([type, name]) =>
      kinds.map((kind) => ({ type: `${type}${kind}`, name })),
    );
    for (const wish of [...types, { type: 'VaultAccessPolicyChanged' }]) {
      const { status, json } = await control('POST', '/vaults/main/events/republish', wish);
      expect([wish, status]).toEqual([wish, 200]);
      expect(json.eventType).toBe(`Microsoft.KeyVault.${wish.type}`);
    }
  });
});

describe('plain http', () => {
  const httpUrl = () => emulator.vaults.find(({ name }) => name === 'main')!.httpUrl!;

  it('asks for a token too, and tells its own URL in ids and links', async () => {
    const call = async (path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(`${httpUrl()}${path}`, { headers });
      return { status: response.status, json: (await response.json()) as never };
    };
    expect((await call(`/secrets/kept?${version}`)).status).toBe(401);
    const headers = { authorization: `Bearer ${ground.token}` };
    const got = await call(`/secrets/kept?${version}`, headers);
    expect(got).toMatchObject({ status: 200, json: { value: 'v' } });
    expect(got.json).toHaveProperty('id', expect.stringContaining(`${httpUrl()}/secrets/kept/`));
    const list = await call(`/secrets?${version}&maxresults=1`, headers);
    expect(list.json).toHaveProperty('nextLink', expect.stringContaining(`${httpUrl()}/secrets?`));
    const status = (await control('GET', '/status')).json;
    expect(status.vaults[0].httpUrl).toBe(httpUrl());
    expect((await client.getSecret('kept')).properties.id).toContain(url);
  });

  it('writes into the same vault, and events name the vault as everybody else knows it', async () => {
    const payload = JSON.stringify({ value: 'by-http' });
    const status = await new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${ground.token}`, 'content-length': payload.length };
      const target = `${httpUrl()}/secrets/by-http?${version}`;
      request(target, { method: 'PUT', headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end(payload);
    });
    expect(status).toBe(200);
    expect((await client.getSecret('by-http')).value).toBe('by-http');
    const event = await eventually(() => events.find(({ data }) => data.ObjectName === 'by-http'));
    expect(event.data.Id).toContain(`${url}/secrets/by-http/`);
  });
});

describe('the state', () => {
  it('goes from one emulator to another with every version, under its own URL', async () => {
    const { properties } = await client.setSecret('moved', '1', { tags: { a: 'b' } });
    await client.setSecret('moved', '2');
    await client.setSecret('moved-deleted', 'v');
    await client.beginDeleteSecret('moved-deleted');
    const { json } = await control('GET', '/state');
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const loadFile = join(dir, 'state.json');
    await writeFile(loadFile, JSON.stringify(json));
    const vaults = [{ name: 'main' }, { name: 'other' }];
    const second = await ground.startVaults({ vaults, loadFile });
    const there = ground.secretClient(urlOf(second));
    expect((await there.getSecret('moved')).value).toBe('2');
    const first = await there.getSecret('moved', { version: properties.version! });
    expect(first.properties).toMatchObject({ tags: { a: 'b' }, vaultUrl: urlOf(second) });
    expect((await there.getDeletedSecret('moved-deleted')).name).toBe('moved-deleted');

    await there.setSecret('not-in-it', 'v');
    expect((await controlOf(second)('PUT', '/state', json)).status).toBe(204);
    expect((await refusal(there.getSecret('not-in-it')))?.statusCode).toBe(404);
    expect((await controlOf(second)('GET', '/state')).json).toEqual(json);
    await second.stop();
    await rm(dir, { recursive: true });
  });

  it.each([
    ['another format', { format: 9, vaults: {} }, 'format'],
    ['an unknown member', { format: 2, vaults: {}, more: 1 }, 'more'],
    ['an unknown vault', { format: 2, vaults: { nowhere: emptyVault() } }, 'vaults.nowhere'],
    [
      'an object without versions',
      {
        format: 2,
        vaults: {
          main: { ...emptyVault(), secrets: { live: [{ name: 'x', versions: [] }], deleted: [] } },
        },
      },
      'vaults.main.secrets.live[0].versions',
    ],
  ])('is refused with %s, and nothing is changed', async (_, state, path) => {
    const before = (await control('GET', '/state')).json;
    const { status, json } = await control('PUT', '/state', state);
    expect(status).toBe(400);
    expect(json.error.message).toContain(path);
    expect((await control('GET', '/state')).json).toEqual(before);
  });

  it('stops the start when the file holds none', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const loadFile = join(dir, 'state.json');
    await writeFile(loadFile, '{"format": 2}');
    await expect(ground.startVaults({ loadFile })).rejects.toThrow(/is no emulator state.*vaults/s);
    await rm(dir, { recursive: true });
  });
});

function emptyVault() {
  const store = { live: [], deleted: [] };
  return { secrets: store, keys: store, certificates: store };
}
