import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  createTokenVerifier,
  type TokenAlgorithm,
  type TokenVerifierOptions,
} from '../../../src/core/auth/tokens.ts';
import { errorFields } from '../../../src/core/log.ts';

const v2 = 'https://login.example/tenant-1/v2.0';
const v1 = 'https://sts.example/tenant-1/';
const audience = 'api://keyturn';

let keys: Record<TokenAlgorithm, { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey }>;
let foreign: CryptoKey;
let jwks: object;
let now: Date;
/** What the issuer's key endpoint does, and how often it was asked. */
let respond: (response: http.ServerResponse) => void;
let requests = 0;
let jwksUri: string;
const server = http.createServer((_request, response) => {
  requests++;
  respond(response);
});

beforeAll(async () => {
  const pair = async (algorithm: string) => await generateKeyPair(algorithm, { extractable: true });
  keys = { RS256: await pair('RS256'), ES256: await pair('ES256'), PS256: await pair('PS256') };
  foreign = (await pair('RS256')).privateKey;
  const published = Object.entries(keys).map(async ([alg, { publicKey }]) => ({
    ...(await exportJWK(publicKey)),
    kid: alg,
    alg,
    use: 'sig',
  }));
  jwks = { keys: await Promise.all(published) };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  jwksUri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

beforeEach(() => {
  now = new Date();
  requests = 0;
  respond = (response) => response.end(JSON.stringify(jwks));
});

function seconds(from: Date = now): number {
  return Math.floor(from.getTime() / 1000);
}

function aVerifier(more: Partial<TokenVerifierOptions> = {}) {
  return createTokenVerifier({
    issuers: [v2, v1],
    audience: [audience],
    jwksUri,
    clock: { now: () => now },
    ...more,
  });
}

/** A token that is in order, but for `claims` (undefined leaves one out) and `header`. */
async function aToken(
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  key: CryptoKey = keys.RS256.privateKey,
): Promise<string> {
  const payload: Record<string, unknown> = {
    iss: v2,
    aud: audience,
    sub: 'subject-1',
    azp: 'app-1',
    oid: 'object-1',
    uti: 'token-1',
    roles: ['Keyturn.Rotations.Read'],
    iat: seconds(),
    nbf: seconds(),
    exp: seconds() + 3600,
    ...claims,
  };
  const protectedHeader = { alg: 'RS256', kid: 'RS256', typ: 'JWT', ...header };
  return await new SignJWT(payload).setProtectedHeader(protectedHeader).sign(key);
}

/** A token with any header and signature, as an attacker would put it together. */
function forge(header: object, payload: object, sign: (input: string) => string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const input = `${part(header)}.${part(payload)}`;
  return `${input}.${sign(input)}`;
}

function goodClaims() {
  return {
    iss: v2,
    aud: audience,
    sub: 's',
    exp: seconds() + 3600,
    roles: ['Keyturn.Rotations.Operate'],
  };
}

async function codeOf(header: string | null, verifier = aVerifier()): Promise<string> {
  return await verifier.verify(header).then(
    () => 'ok',
    (error) => error.code,
  );
}

describe('createTokenVerifier', () => {
  it('says who calls', async () => {
    expect(await aVerifier().verify(`Bearer ${await aToken()}`)).toEqual({
      subject: 'subject-1',
      appId: 'app-1',
      objectId: 'object-1',
      roles: ['Keyturn.Rotations.Read'],
      tokenId: 'token-1',
    });
  });

  it('reads what older tokens say, and lacks what they lack', async () => {
    const claims = { iss: v1, azp: undefined, uti: undefined, oid: undefined };
    const older = await aToken({ ...claims, appid: 'app-2', jti: 'token-2' });
    const bare = await aToken({ ...claims, roles: undefined });
    const odd = await aToken({ ...claims, roles: ['a', 7, null], oid: 7 });
    const verifier = aVerifier();
    const none = { subject: 'subject-1', appId: null, objectId: null, roles: [] };
    expect(await verifier.verify(`Bearer ${older}`)).toMatchObject({
      appId: 'app-2',
      tokenId: 'token-2',
    });
    expect(await verifier.verify(`Bearer ${bare}`)).toEqual(none);
    expect(await verifier.verify(`Bearer ${odd}`)).toEqual({ ...none, roles: ['a'] });
  });

  it.each<TokenAlgorithm>(['RS256', 'ES256', 'PS256'])(
    'takes %s, unless the setting leaves it out',
    async (alg) => {
      const token = await aToken({}, { alg, kid: alg }, keys[alg].privateKey);
      expect(await codeOf(`Bearer ${token}`)).toBe('ok');
      const others = (['RS256', 'ES256', 'PS256'] as const).filter((one) => one !== alg);
      expect(await codeOf(`Bearer ${token}`, aVerifier({ algorithms: others }))).toBe(
        'unauthenticated',
      );
    },
  );

  it.each<[string, Record<string, unknown>, string]>([
    ['the older issuer', { iss: v1 }, 'ok'],
    ['another tenant’s issuer', { iss: v2.replace('1', '2') }, 'unauthenticated'],
    ['no issuer', { iss: undefined }, 'unauthenticated'],
    ['another audience', { aud: 'api://other' }, 'unauthenticated'],
    ['an audience that only starts alike', { aud: `${audience}-2` }, 'unauthenticated'],
    ['a list with our audience', { aud: ['api://other', audience] }, 'ok'],
    ['a list without', { aud: ['api://other'] }, 'unauthenticated'],
    ['no audience', { aud: undefined }, 'unauthenticated'],
    ['no subject', { sub: undefined }, 'unauthenticated'],
    ['no expiry', { exp: undefined }, 'unauthenticated'],
    ['an expiry that is text', { exp: '9999999999' }, 'unauthenticated'],
    ['an ID token’s nonce', { nonce: 'n' }, 'unauthenticated'],
    ['an ID token’s at_hash', { at_hash: 'h' }, 'unauthenticated'],
  ])('judges %s', async (_name, claims, expected) => {
    expect(await codeOf(`Bearer ${await aToken(claims)}`)).toBe(expected);
  });

  it.each([
    ['expired 29 s ago', { exp: -29 }, 'ok'],
    ['expired 31 s ago', { exp: -31 }, 'unauthenticated'],
    ['valid in 29 s', { nbf: 29 }, 'ok'],
    ['valid in 32 s', { nbf: 32 }, 'unauthenticated'],
  ])('allows clocks to differ: %s', async (_name, offsets, expected) => {
    now = new Date(Math.floor(now.getTime() / 1000) * 1000);
    const claims = Object.entries(offsets).map(([name, offset]) => [name, seconds() + offset]);
    expect(await codeOf(`Bearer ${await aToken(Object.fromEntries(claims))}`)).toBe(expected);
  });

  it.each([
    ['JWT', 'ok'],
    ['at+jwt', 'ok'],
    ['application/at+jwt', 'ok'],
    [undefined, 'ok'],
    ['logout+jwt', 'unauthenticated'],
    ['dpop+jwt', 'unauthenticated'],
  ])('judges type %s', async (typ, expected) => {
    expect(await codeOf(`Bearer ${await aToken({}, { typ })}`)).toBe(expected);
  });

  it('refuses a signature by a key that is not the issuer’s, wherever the token says to look', async () => {
    const jwk = await exportJWK(keys.ES256.publicKey);
    for (const header of [{}, { jku: jwksUri }, { jwk }, { x5u: jwksUri }, { kid: undefined }]) {
      expect(await codeOf(`Bearer ${await aToken({}, header, foreign)}`)).toBe('unauthenticated');
    }
  });

  it('refuses a token that names a critical extension', async () => {
    const header = { alg: 'RS256', kid: 'RS256', crit: ['x'], x: 1 };
    expect(await codeOf(`Bearer ${forge(header, goodClaims(), () => 'c2ln')}`)).toBe(
      'unauthenticated',
    );
  });

  it('refuses none, and HS256 keyed with the public key', async () => {
    const spki = await exportSPKI(keys.RS256.publicKey);
    const hmac = (input: string) => createHmac('sha256', spki).update(input).digest('base64url');
    const hs = forge({ alg: 'HS256', kid: 'RS256' }, goodClaims(), hmac);
    expect(await codeOf(`Bearer ${hs}`)).toBe('unauthenticated');
    for (const alg of ['none', 'None', 'RS512', '']) {
      expect(await codeOf(`Bearer ${forge({ alg }, goodClaims(), () => 'x')}`)).toBe(
        'unauthenticated',
      );
      expect(await codeOf(`Bearer ${forge({ alg }, goodClaims(), () => '')}`)).toBe(
        'unauthenticated',
      );
    }
    expect(requests).toBe(0);
  });

  it('refuses a changed payload', async () => {
    const [header, , signature] = (await aToken()).split('.');
    const payload = Buffer.from(JSON.stringify(goodClaims())).toString('base64url');
    expect(await codeOf(`Bearer ${header}.${payload}.${signature}`)).toBe('unauthenticated');
  });

  it('refuses what is not exactly one bearer token', async () => {
    const token = await aToken();
    const verifier = aVerifier();
    for (const header of [
      null,
      '',
      'Bearer',
      'Bearer ',
      token,
      `Basic ${token}`,
      `Bearer ${token}, Bearer ${token}`,
      `Bearer ${token},Bearer x.y.z`,
      `Bearer ${token} `,
      `Bearer ${token}\n`,
      'Bearer a.b',
      'Bearer !.!.!',
      'Bearer e30.e30.e30',
    ]) {
      expect(await codeOf(header, verifier), String(header)).toBe('unauthenticated');
    }
    expect(await codeOf(`bearer ${token}`, verifier)).toBe('ok');
  });

  it('refuses a token over 16 KiB, and one of a megabyte, without looking at it', async () => {
    const large = await aToken({ padding: 'x'.repeat(16_000) });
    expect(await codeOf(`Bearer ${large}`)).toBe('unauthenticated');
    expect(await codeOf(`Bearer a.b.${'c'.repeat(1_000_000)}`)).toBe('unauthenticated');
    expect(requests).toBe(0);
  });

  it('fetches the keys once, however many unknown key ids come', async () => {
    const verifier = aVerifier();
    expect(await codeOf(`Bearer ${await aToken()}`, verifier)).toBe('ok');
    for (let i = 0; i < 20; i++) {
      expect(await codeOf(`Bearer ${await aToken({}, { kid: `k${i}` })}`, verifier)).toBe(
        'unauthenticated',
      );
    }
    expect(requests).toBe(1);
  });

  it.each<[string, (response: http.ServerResponse) => void]>([
    ['fails', (response) => response.writeHead(500).end()],
    ['redirects', (response) => response.writeHead(302, { location: '/keys2' }).end()],
    ['hangs up', (response) => response.destroy()],
    ['talks nonsense', (response) => response.end('<html>')],
  ])('blames itself, and asks rarely, while the issuer %s', async (_name, broken) => {
    respond = broken;
    const verifier = aVerifier();
    const token = `Bearer ${await aToken()}`;
    for (let i = 0; i < 5; i++) expect(await codeOf(token, verifier)).toBe('internal');
    expect(requests).toBe(1);
    respond = (response) => response.end(JSON.stringify(jwks));
    now = new Date(now.getTime() + 6_000);
    expect(await codeOf(token, verifier)).toBe('ok');
    expect(requests).toBe(2);
  });

  it('remembers a token for five minutes, but never past its expiry', async () => {
    const verifier = aVerifier();
    const start = now;
    const short = `Bearer ${await aToken({ exp: seconds() + 60 })}`;
    const long = `Bearer ${await aToken()}`;
    expect(await verifier.verify(long)).toBe(await verifier.verify(long));
    const first = await verifier.verify(long);
    expect(await codeOf(short, verifier)).toBe('ok');
    now = new Date(start.getTime() + 91_000);
    expect(await codeOf(short, verifier)).toBe('unauthenticated');
    expect(await verifier.verify(long)).toBe(first);
    now = new Date(start.getTime() + 301_000);
    expect(await verifier.verify(long)).not.toBe(first);
  });

  it('remembers a thousand tokens and forgets the least used', async () => {
    const key = keys.ES256.privateKey;
    const verifier = aVerifier();
    const token = async (n: number) =>
      `Bearer ${await aToken({ uti: `t${n}` }, { alg: 'ES256', kid: 'ES256' }, key)}`;
    const used = await token(-1);
    const unused = await token(-2);
    const [kept, lost] = [await verifier.verify(used), await verifier.verify(unused)];
    for (let n = 0; n < 999; n++) {
      await verifier.verify(await token(n));
      if (n === 500) await verifier.verify(used);
    }
    expect(await verifier.verify(used)).toBe(kept);
    expect(await verifier.verify(unused)).not.toBe(lost);
  });

  it('says nothing of the token in what is logged', async () => {
    const token = await aToken({ iss: 'https://evil.example/canary', sub: 'canary' });
    const error: unknown = await aVerifier()
      .verify(`Bearer ${token}`)
      .catch((e) => e);
    const logged = JSON.stringify(errorFields(error));
    expect(logged).toContain('ERR_JWT_CLAIM_VALIDATION_FAILED');
    expect(logged).not.toContain('canary');
    expect(logged).not.toContain(token.slice(0, 30));
  });

  it.each<[string, Partial<TokenVerifierOptions>]>([
    ['no issuer', { issuers: [] }],
    ['no audience', { audience: [] }],
    ['an empty audience', { audience: [''] }],
    ['a key address that is none', { jwksUri: 'keys' }],
    ['no algorithm', { algorithms: [] }],
    ['a symmetric algorithm', { algorithms: ['HS256' as TokenAlgorithm] }],
  ])('does not start with %s', (_name, options) => {
    expect(() => aVerifier(options)).toThrow('bad_configuration');
  });

  it('runs on the system clock by itself', async () => {
    const token = `Bearer ${await aToken()}`;
    const options = { issuers: [v2], audience: [audience], jwksUri };
    expect(await codeOf(token, createTokenVerifier(options))).toBe('ok');
  });
});
