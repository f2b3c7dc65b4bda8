import { createHash } from 'node:crypto';
import {
  createRemoteJWKSet,
  customFetch,
  errors,
  type FetchImplementation,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
  type ProtectedHeaderParameters,
} from 'jose';
import { type Clock, systemClock } from '../clock.ts';
import { AppError } from '../errors.ts';

/** Who calls, as a verified token says. */
export interface Caller {
  readonly subject: string;
  readonly appId: string | null;
  readonly objectId: string | null;
  readonly roles: readonly string[];
  readonly tokenId?: string;
}

export interface TokenVerifier {
  /**
   * @param authorization the header as it came; null when there was none
   * @throws AppError `unauthenticated`, whatever is wrong with it; `internal` when the issuer's
   * keys cannot be had, which says nothing about the token
   */
  verify(authorization: string | null): Promise<Caller>;
}

export type TokenAlgorithm = 'RS256' | 'ES256' | 'PS256';

export interface TokenVerifierOptions {
  readonly issuers: readonly string[];
  readonly audience: readonly string[];
  readonly jwksUri: string;
  readonly algorithms?: readonly TokenAlgorithm[];
  readonly clock?: Clock;
}

const allAlgorithms: readonly TokenAlgorithm[] = ['RS256', 'ES256', 'PS256'];
const tokenLimitBytes = 16 * 1024;
const clockToleranceSeconds = 30;

/** Verifies callers' tokens against one issuer's keys. Nothing is fetched before the first token. */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const { clock = systemClock, algorithms = allAlgorithms } = options;
  checkOptions(options, algorithms);
  const keys = remoteKeys(options.jwksUri, clock);
  const known = createCallerCache(clock);

  return {
    async verify(authorization) {
      const token = parseBearer(authorization);
      const cached = known.find(token);
      if (cached !== null) return cached;
      const payload = await verifyToken(token, keys, {
        issuer: [...options.issuers],
        audience: [...options.audience],
        algorithms: [...algorithms],
        clockTolerance: clockToleranceSeconds,
        currentDate: clock.now(),
        requiredClaims: ['exp', 'iss', 'aud', 'sub'],
      });
      const caller = toCaller(payload);
      known.keep(token, caller, payload.exp ?? 0);
      return caller;
    },
  };
}

function checkOptions(
  { issuers, audience, jwksUri }: TokenVerifierOptions,
  algorithms: readonly string[],
): void {
  const isUsable =
    issuers.length > 0 &&
    audience.length > 0 &&
    [...issuers, ...audience].every((text) => text !== '') &&
    URL.canParse(jwksUri) &&
    algorithms.length > 0 &&
    algorithms.every((name) => allAlgorithms.some((allowed) => allowed === name));
  if (isUsable) return;
  const detail = 'token verifier: issuers, audience, jwksUri and algorithms must be given';
  throw new AppError('bad_configuration', { detail });
}

/** The token of `Bearer <token>`. Two headers arrive joined by a comma, which no token contains. */
function parseBearer(authorization: string | null): string {
  if (authorization === null || authorization === '') throw unauthenticated('no token');
  if (authorization.length > tokenLimitBytes) throw unauthenticated('token too long');
  const match = /^bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(authorization);
  if (match?.[1] === undefined) throw unauthenticated('not one bearer token');
  return match[1];
}

async function verifyToken(
  token: string,
  keys: JWTVerifyGetKey,
  options: Parameters<typeof jwtVerify>[2] & object,
): Promise<JWTPayload> {
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, options);
    checkTokenType(protectedHeader, payload);
    return payload;
  } catch (error) {
    if (error instanceof AppError) throw error;
    // jose's own messages name claims, not their values; the token stays out of the cause chain.
    const reason = error instanceof errors.JOSEError ? error.code : 'unreadable';
    throw unauthenticated(reason);
  }
}

/** Claims that only ID tokens have: those tell a client who logged in and open no API. */
const idTokenClaims = ['nonce', 'at_hash', 'c_hash'] as const;

function checkTokenType(header: ProtectedHeaderParameters, payload: JWTPayload): void {
  const type = header.typ?.toLowerCase().replace(/^application\//, '') ?? 'jwt';
  if (type !== 'jwt' && type !== 'at+jwt') throw unauthenticated('not an access token: typ');
  const claim = idTokenClaims.find((name) => payload[name] !== undefined);
  if (claim !== undefined) throw unauthenticated(`not an access token: ${claim}`);
}

/** jose waits after an answer only; an issuer that does not answer is spared as well. */
const fetchIntervalMs = 5_000;

/** The issuer's keys, fetched again for unknown key ids at most every 30 s, and every 5 s on failure. */
function remoteKeys(jwksUri: string, clock: Clock): JWTVerifyGetKey {
  let triedAt = Number.NEGATIVE_INFINITY;
  const fetchKeys: FetchImplementation = async (url, options) => {
    const now = clock.now().getTime();
    if (Math.abs(now - triedAt) < fetchIntervalMs) throw new Error('tried a moment ago');
    triedAt = now;
    return await fetch(url, options);
  };
  const keys = createRemoteJWKSet(new URL(jwksUri), {
    timeoutDuration: 4_000,
    cooldownDuration: 30_000,
    [customFetch]: fetchKeys,
  });
  return async (header, token) => {
    try {
      return await keys(header, token);
    } catch (cause) {
      const isAboutToken =
        cause instanceof errors.JWKSNoMatchingKey ||
        cause instanceof errors.JWKSMultipleMatchingKeys ||
        cause instanceof errors.JOSENotSupported;
      if (isAboutToken) throw cause;
      throw new AppError('internal', { detail: `signing keys from ${jwksUri}`, cause });
    }
  };
}

function toCaller(payload: JWTPayload): Caller {
  const claim = (...names: readonly string[]) =>
    names.map((name) => payload[name]).find((value) => typeof value === 'string') ?? null;
  const roles: unknown = payload['roles'];
  const tokenId = claim('uti', 'jti');
  return {
    subject: payload.sub ?? '',
    appId: claim('azp', 'appid'),
    objectId: claim('oid'),
    roles: Array.isArray(roles) ? roles.filter((role) => typeof role === 'string') : [],
    ...(tokenId === null ? {} : { tokenId }),
  };
}

const cacheSeconds = 300;
const cacheEntries = 1_000;

/** Callers by the digest of their token, for five minutes and never past the token's expiry. */
function createCallerCache(clock: Clock) {
  const entries = new Map<string, { readonly caller: Caller; readonly until: number }>();
  const digest = (token: string) => createHash('sha256').update(token).digest('base64');

  return {
    find(token: string): Caller | null {
      const key = digest(token);
      const entry = entries.get(key);
      if (entry === undefined) return null;
      entries.delete(key);
      if (clock.now().getTime() >= entry.until) return null;
      entries.set(key, entry); // to the young end: the oldest is thrown out first
      return entry.caller;
    },
    keep(token: string, caller: Caller, expiresAtSeconds: number): void {
      const until = Math.min(expiresAtSeconds, clock.now().getTime() / 1000 + cacheSeconds) * 1000;
      const oldest = entries.keys().next().value;
      if (entries.size >= cacheEntries && oldest !== undefined) entries.delete(oldest);
      entries.set(digest(token), { caller, until });
    },
  };
}

function unauthenticated(detail: string): AppError {
  return new AppError('unauthenticated', { detail });
}
