import { findAllowing } from '../access-control.ts';
import { describeCaller } from '../caller.ts';
import { errors } from '../errors.ts';
import { callerOf, type Gate, placeOf, routeOf } from '../exchange.ts';
import type { Route } from '../router.ts';
import { resourceId } from '../vault.ts';

/** Whether the caller may do it. */
export const accessGate: Gate = (exchange) => {
  const { vault } = exchange.plane;
  if (!vault.access.enforced) return null;
  const route = routeOf(exchange);
  const caller = callerOf(exchange);
  const object = scopeOf(route);
  const { action } = route.operation;
  exchange.assignmentId = findAllowing(vault.access, { caller, action, object });
  exchange.isAllowed = exchange.assignmentId !== null;
  if (exchange.isAllowed) return null;
  throw errors.forbiddenByRbac({
    caller: describeCaller(caller),
    action: `Microsoft.KeyVault/vaults/${action}`,
    resource: resourceId(vault)
      .replace('/resourceGroups/', '/resourcegroups/')
      .replace('/Microsoft.KeyVault/', '/microsoft.keyvault/')
      .concat(object),
    place: placeOf(vault),
  });
};

/** `/secrets/orders-db`, also for what was deleted; empty for what is about the vault, its issuers included. */
function scopeOf({ collection, params }: Route): string {
  const name = params['name'];
  return name === undefined || collection.includes('/') ? '' : `/${collection}/${name}`;
}
