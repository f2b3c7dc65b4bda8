import { challengeFor, claimsChallenge } from '../challenges.ts';
import { errors } from '../errors.ts';
import type { Exchange, Gate } from '../exchange.ts';
import type { VerifiedToken } from '../token-check.ts';

/**
 * Who calls. Before anything else is looked at: SDK clients send their first request without its body to be refused
 * here, and learn from the challenge where tokens come from.
 */
export const tokenGate: Gate = (exchange) => {
  const { tenantId, challenges, checkToken } = exchange.plane.service;
  const challenge = challengeFor(tenantId, challenges.style);
  const token = checkToken(exchange.request.headers.authorization, challenge);
  return token instanceof Promise
    ? token.then((verified) => admit(exchange, verified))
    : admit(exchange, token);
};

function admit(exchange: Exchange, token: VerifiedToken): null {
  const end = exchange.plane.service.revocations.endOf(token);
  if (end !== null) throw errors.revokedToken(claimsChallenge(end));
  exchange.caller = token.caller;
  return null;
}
