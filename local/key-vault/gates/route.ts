import type { Gate } from '../exchange.ts';

/** What is wanted. */
export const routeGate: Gate = (exchange) => {
  const { plane, request, path } = exchange;
  const route = plane.service.router(request.method ?? '', path);
  exchange.route = route;
  exchange.version = route.params['version'] || null;
  return null;
};
