import { calculateJwkThumbprint, compactVerify, decodeJwt, importJWK, type JWK } from 'jose';

/** A request that was signed with the key which the access token in it is bound to. */
type SignedRequest = { readonly accessToken: string; readonly key: JWK };

/**
 * The access token of a proof-of-possession header: some clients send the token alone, others a signed request that
 * has it within. What such a request says of method and URL is not looked at.
 *
 * @throws Error when the signature, or the key the token is bound to, does not fit
 */
export async function unwrapProof(token: string): Promise<string> {
  const request = readSignedRequest(token);
  if (request === null) return token;
  const { accessToken, key } = request;
  await compactVerify(token, await importJWK(key, key.alg ?? algorithmOf(key)));
  const bound = (decodeJwt(accessToken)['cnf'] as { kid?: unknown } | undefined)?.kid;
  if (bound !== undefined && bound !== (await calculateJwkThumbprint(key))) {
    throw new Error('the access token is bound to another key');
  }
  return accessToken;
}

function readSignedRequest(token: string): SignedRequest | null {
  try {
    const { at, cnf } = decodeJwt(token);
    const key = (cnf as { jwk?: JWK } | undefined)?.jwk;
    return typeof at === 'string' && key !== undefined ? { accessToken: at, key } : null;
  } catch {
    return null;
  }
}

function algorithmOf({ kty }: JWK): string {
  return kty === 'EC' ? 'ES256' : 'RS256';
}
