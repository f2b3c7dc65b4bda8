import { describeCaller } from '../caller.ts';
import { errors } from '../errors.ts';
import { callerOf, type Gate, placeOf } from '../exchange.ts';
import { clientAddressOf, decideFirewall } from '../firewall.ts';

/** Where the call comes from. */
export const firewallGate: Gate = (exchange) => {
  const { vault } = exchange.plane;
  const address = clientAddressOf(vault.firewall, exchange.clientAddress);
  exchange.clientAddress = address;
  const verdict = decideFirewall(vault.firewall, address);
  exchange.isAddressAuthorized = verdict === 'allowed';
  if (verdict === 'allowed') return null;
  const caller = describeCaller(callerOf(exchange));
  if (verdict === 'ForbiddenByConnection') {
    throw errors.forbiddenByConnection(caller, placeOf(vault));
  }
  throw errors.forbiddenByFirewall(address, caller, placeOf(vault));
};
