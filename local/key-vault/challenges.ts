import { z } from 'zod';

export const ChallengeStyle = z.enum(['resource', 'scope']);
/** `resource` names what tokens are for as the first version of the protocol does, `scope` as the second. */
export type ChallengeStyle = z.output<typeof ChallengeStyle>;

const authority = 'https://login.microsoftonline.com';
const resource = 'https://vault.azure.net';

/** The `WWW-Authenticate` of a 401: where a client gets a token, and for what. */
export function challengeFor(tenantId: string, style: ChallengeStyle): string {
  const wanted = style === 'resource' ? `resource="${resource}"` : `scope="${resource}/.default"`;
  return `Bearer authorization="${authority}/${tenantId}", ${wanted}`;
}

/** Sent when a token was ended before its time: the client shall get one that is younger than `at` (milliseconds). */
export function claimsChallenge(at: number): string {
  const nbf = { essential: true, value: String(Math.floor(at / 1000)) };
  const claims = { access_token: { nbf, xms_caeerror: { value: '10012' } } };
  const encoded = Buffer.from(JSON.stringify(claims)).toString('base64');
  return `Bearer realm="", authorization_uri="${authority}/common/oauth2/authorize", error="insufficient_claims", claims="${encoded}"`;
}
