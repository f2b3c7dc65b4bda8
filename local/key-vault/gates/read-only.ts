import { errors } from '../errors.ts';
import { type Gate, routeOf } from '../exchange.ts';

/** After a failover to the paired region nothing can be written. */
export const readOnlyGate: Gate = (exchange) => {
  const { operation } = routeOf(exchange);
  if (exchange.plane.vault.readOnly && operation.effect === 'write') {
    throw errors.readOnly(operation.serviceName);
  }
  return null;
};
