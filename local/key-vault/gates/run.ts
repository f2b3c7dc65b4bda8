import { errors } from '../errors.ts';
import { type Exchange, type Gate, type Outcome, routeOf } from '../exchange.ts';
import type { Answer, Call } from '../operation.ts';
import { afterRun } from './faults.ts';

/** Does it. */
export const runGate: Gate = (exchange) => {
  const { vault, service } = exchange.plane;
  const { operation, params } = routeOf(exchange);
  const call: Call = {
    vault,
    params,
    query: exchange.query,
    body: parseJson(exchange.body),
    now: Math.floor(service.now() / 1000),
    changed: (change) => service.changed(vault, change),
  };
  const answer = operation.run(call);
  return answer instanceof Promise
    ? answer.then((settled) => reply(exchange, settled))
    : reply(exchange, answer);
};

function reply(exchange: Exchange, { status = 200, body, headers, version }: Answer): Outcome {
  exchange.version = version ?? exchange.version;
  return afterRun(exchange.fault, { status, body, ...(headers === undefined ? {} : { headers }) });
}

function parseJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw errors.badProperty('');
  }
}
