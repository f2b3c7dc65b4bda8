import { createHash, randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import type { SigningKey } from './signing-key.ts';

/** What a token shall say. Times are seconds; `expiresInSeconds` may be negative, for a token that is already over. */
export type TokenRequest = {
  readonly audience: string;
  readonly roles?: readonly string[];
  /** Object id of the caller: becomes `sub` and `oid`. Default: the caller identity `local-caller`. */
  readonly subject?: string;
  readonly appId?: string;
  readonly expiresInSeconds?: number;
  /** Further claims; they win over all others, so that a test can forge any of them. */
  readonly claims?: Readonly<Record<string, unknown>>;
};

export type IssuedToken = { readonly accessToken: string; readonly expiresOn: number };

export type Issuer = {
  readonly issuer: string;
  readonly tenantId: string;
  readonly key: SigningKey;
};

/** Object id and application id of a named identity: the same name has the same ids on every machine. */
export function identityNamed(name: string): { objectId: string; appId: string } {
  return { objectId: uuidFrom(`object:${name}`), appId: uuidFrom(`application:${name}`) };
}

/** A signed RS256 access token in the shape Entra ID gives to applications (`idtyp: app`). */
export async function issue(issuer: Issuer, request: TokenRequest): Promise<IssuedToken> {
  const now = Math.floor(Date.now() / 1000);
  const caller = identityNamed('local-caller');
  const objectId = request.subject ?? caller.objectId;
  const appId = request.appId ?? caller.appId;
  const expiresOn = now + (request.expiresInSeconds ?? 3600);
  const accessToken = await new SignJWT({
    iss: issuer.issuer,
    aud: request.audience,
    iat: Math.min(now, expiresOn - 1),
    nbf: Math.min(now, expiresOn - 1),
    exp: expiresOn,
    sub: objectId,
    oid: objectId,
    appid: appId,
    tid: issuer.tenantId,
    idtyp: 'app',
    ver: '1.0',
    jti: randomUUID(),
    ...(request.roles === undefined ? {} : { roles: [...request.roles] }),
    ...request.claims,
  })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: issuer.key.kid })
    .sign(issuer.key.privateKey);
  return { accessToken, expiresOn };
}

function uuidFrom(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 0x3) | 0x8).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `5${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}
