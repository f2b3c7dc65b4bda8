import {
  createRemoteJWKSet,
  decodeJwt,
  type JWTPayload,
  errors as joseErrors,
  jwtVerify,
} from 'jose';
import type { Caller } from './caller.ts';
import { errors, type VaultError } from './errors.ts';
import { unwrapProof } from './pop-token.ts';

export type TokenRules = {
  readonly jwksUri: string;
  /** What tokens of the protocol's second version name has `/v2.0` at its end. */
  readonly issuer: string;
  readonly audience: string;
};

export type VerifiedToken = {
  readonly caller: Caller;
  /** Seconds since 1970. */
  readonly issuedAt: number;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  readonly firstSeenAt: number;
};

/**
 * @param challenge what the client is told to do after a 401
 * @throws VaultError 401 for a missing or refused token
 */
export type TokenCheck = (
  authorization: string | undefined,
  challenge: string,
) => VerifiedToken | Promise<VerifiedToken>;

/** Key Vault's own application, which tokens of the protocol's second version are for. */
const keyVaultAppId = 'cfa8b339-82a2-471a-a3c9-0fc0be7a4093';
const maxRemembered = 2000;

/** @param rules absent: any token will do, as long as there is one */
export function createTokenCheck(rules?: TokenRules): TokenCheck {
  const verify = rules === undefined ? readUnverified : verifier(rules);
  const remembered = new Map<string, VerifiedToken>();
  const check = async (token: string, challenge: string): Promise<VerifiedToken> => {
    const verified = describeToken(await verify(token, challenge));
    const [oldest] = remembered.keys();
    if (remembered.size >= maxRemembered && oldest !== undefined) remembered.delete(oldest);
    remembered.set(token, verified);
    return verified;
  };
  // Most calls carry the token of the call before, and to see that costs less than to look it up.
  let last: { readonly authorization: string; readonly token: VerifiedToken } | null = null;
  return (authorization, challenge) => {
    if (last !== null && last.authorization === authorization && isCurrent(last.token)) {
      return last.token;
    }
    const token = /^(?:Bearer|PoP|mtls_pop) +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined) throw errors.missingToken(challenge);
    const known = remembered.get(token);
    if (known === undefined || !isCurrent(known)) return check(token, challenge);
    if (authorization !== undefined) last = { authorization, token: known };
    return known;
  };
}

function isCurrent({ expiresAt }: VerifiedToken): boolean {
  return expiresAt > Date.now();
}

function describeToken(claims: JWTPayload): VerifiedToken {
  const firstSeenAt = Date.now();
  return {
    caller: {
      appId: textOrNull(claims['appid']) ?? textOrNull(claims['azp']),
      objectId: textOrNull(claims['oid']),
      issuer: textOrNull(claims.iss),
    },
    issuedAt: claims.iat ?? Math.floor(firstSeenAt / 1000),
    expiresAt: claims.exp === undefined ? Number.POSITIVE_INFINITY : claims.exp * 1000,
    firstSeenAt,
  };
}

type Verify = (token: string, challenge: string) => Promise<JWTPayload>;

function verifier(rules: TokenRules): Verify {
  // No pause between fetches: a restarted issuer has a new key, and it is on this machine.
  const keys = createRemoteJWKSet(new URL(rules.jwksUri), { cooldownDuration: 0 });
  const checks = {
    issuer: [rules.issuer, `${rules.issuer.replace(/\/$/, '')}/v2.0`],
    audience: [rules.audience, `${rules.audience}/`, keyVaultAppId],
    algorithms: ['RS256'],
    requiredClaims: ['exp'],
  };
  return async (token, challenge) => {
    try {
      const accessToken = await unwrapProof(token).catch((cause: unknown) => {
        throw new joseErrors.JWSInvalid('the proof of possession is none', { cause });
      });
      return (await jwtVerify(accessToken, keys, checks)).payload;
    } catch (error) {
      throw refusal(error, challenge, rules);
    }
  };
}

function refusal(error: unknown, challenge: string, rules: TokenRules): VaultError {
  const refuse = (text: string) => errors.refusedToken(`${challenge}, error="invalid_token"`, text);
  if (error instanceof joseErrors.JWTExpired) {
    return refuse("[TokenExpired] Error validating token: 'S2S12086'.");
  }
  if (error instanceof joseErrors.JWTClaimValidationFailed) {
    const found = String(error.payload[error.claim]);
    if (error.claim === 'aud') {
      return refuse(`AKV10022: Invalid audience. Expected ${rules.audience}, found: ${found}.`);
    }
    if (error.claim === 'iss') {
      return refuse(`AKV10032: Invalid issuer. Expected one of ${rules.issuer}, found ${found}.`);
    }
    return refuse(`The token was refused: claim ${error.claim}.`);
  }
  const isTokenFault =
    error instanceof joseErrors.JOSEError &&
    !(error instanceof joseErrors.JWKSTimeout) &&
    !(error instanceof joseErrors.JWKSInvalid) &&
    // The key set's answer was no key set: jose has no class of its own for that.
    error.code !== 'ERR_JOSE_GENERIC';
  if (isTokenFault) return refuse('The token was refused: no valid signature of the issuer.');
  console.error(`key-vault: ${rules.jwksUri} cannot be read`, error);
  return errors.issuerUnreachable();
}

async function readUnverified(token: string): Promise<JWTPayload> {
  try {
    return decodeJwt(await unwrapProof(token));
  } catch {
    return {};
  }
}

function textOrNull(claim: unknown): string | null {
  return typeof claim === 'string' ? claim : null;
}
