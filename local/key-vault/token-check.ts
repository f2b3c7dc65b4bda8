import {
  createRemoteJWKSet,
  decodeJwt,
  type JWTPayload,
  errors as joseErrors,
  jwtVerify,
} from 'jose';
import type { CallerIdentity } from './audit.ts';
import { errors, type VaultError } from './errors.ts';

export type TokenRules = {
  readonly jwksUri: string;
  readonly issuer: string;
  readonly audience: string;
};

/** @returns who calls. @throws VaultError 401 for a missing or refused token */
export type TokenCheck = (authorization: string | undefined) => Promise<CallerIdentity>;

/**
 * @param challenge what a client is told to do after a 401
 * @param rules absent: any token will do, as long as there is one
 */
export function createTokenCheck(challenge: string, rules?: TokenRules): TokenCheck {
  const verify = rules === undefined ? readUnverified : verifier(challenge, rules);
  return async (authorization) => {
    const token = /^(?:Bearer|PoP) +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined) throw errors.missingToken(challenge);
    const claims = await verify(token);
    return { appId: textOrNull(claims['appid']), objectId: textOrNull(claims['oid']) };
  };
}

function verifier(challenge: string, rules: TokenRules): (token: string) => Promise<JWTPayload> {
  // No pause between fetches: a restarted issuer has a new key, and it is on this machine.
  const keys = createRemoteJWKSet(new URL(rules.jwksUri), { cooldownDuration: 0 });
  const { issuer, audience } = rules;
  return async (token) => {
    try {
      const checks = { issuer, audience, algorithms: ['RS256'], requiredClaims: ['exp'] };
      return (await jwtVerify(token, keys, checks)).payload;
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
    return decodeJwt(token);
  } catch {
    return {};
  }
}

function textOrNull(claim: unknown): string | null {
  return typeof claim === 'string' ? claim : null;
}
