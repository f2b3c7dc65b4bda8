/** The services of a vault, each of whose operations is written down by the access log. */
import { type ErrorCode, toAppError } from '../errors.ts';
import { type AccessLogEntry, nameOrNull, versionOrNull } from './access-entry.ts';
import { findOperation, operationNames } from './operation-names.ts';
import type { ObjectType } from './ports.ts';

/** What is known of a line when its operation begins. */
export type Begun = Pick<AccessLogEntry, 'vault' | 'operation' | 'object' | 'version'>;

export interface LoggedVault {
  readonly alias: string;
  readonly secrets: object;
  readonly keys: object;
  readonly certificates?: object;
}

/** An operation that is being written down. */
export interface Operation {
  /** Does a part of it, whose time counts. */
  run<T>(work: () => Promise<T>): Promise<T>;
  end(outcome: 'ok' | ErrorCode, object: string | null, servedVersion: string | null): void;
}

type Service = Readonly<Record<string, (...given: unknown[]) => unknown>>;

export interface ServiceTools {
  readonly begin: (begun: Begun) => Operation;
  /** Whether another operation is under way, of which this one is then a part. */
  readonly isEnclosed: () => boolean;
}

/** `vault` with its services wrapped; those it does not have are not added. */
export function loggedVault<V extends LoggedVault>(vault: V, tools: ServiceTools): V {
  const logged = (service: object, type: ObjectType) => ({
    ...service,
    ...loggedMethods(service as Service, { vault: vault.alias, type }, tools),
  });
  const { secrets, keys, certificates } = vault;
  return {
    ...vault,
    secrets: logged(secrets, 'secret'),
    keys: logged(keys, 'key'),
    ...(certificates === undefined ? {} : { certificates: logged(certificates, 'certificate') }),
  };
}

function loggedMethods(
  service: Service,
  { vault, type }: { readonly vault: string; readonly type: ObjectType },
  { begin, isEnclosed }: ServiceTools,
): Service {
  const methods = Object.entries(operationNames[type]).map(([method, operation]) => {
    const begun = (given: readonly unknown[]): Begun => {
      // In all methods the name comes first, and the version is the next text there is.
      const version = versionOrNull(given.slice(1).find((one) => typeof one === 'string'));
      return { vault, operation, object: nameOrNull(given[0]), version };
    };
    const call = (given: readonly unknown[]) => service[method]?.(...given);
    const one = (...given: unknown[]) =>
      isEnclosed() ? call(given) : loggedCall(begin(begun(given)), async () => call(given));
    const list = (...given: unknown[]) => {
      const items = call(given) as AsyncIterable<unknown>;
      return isEnclosed() ? items : loggedList(() => begin(begun(given)), items);
    };
    return [method, findOperation(operation)?.isList ? list : one];
  });
  return Object.fromEntries(methods) as Service;
}

async function loggedCall(operation: Operation, call: () => Promise<unknown>): Promise<unknown> {
  try {
    const answer = await operation.run(call);
    operation.end('ok', nameIn(answer), versionIn(answer));
    return answer;
  } catch (error) {
    operation.end(toAppError(error, '').code, null, null);
    throw error;
  }
}

/** The line is written when whoever reads the list is done with it, however much is left. */
async function* loggedList(
  begin: () => Operation,
  items: AsyncIterable<unknown>,
): AsyncIterable<unknown> {
  const operation = begin();
  const iterator = items[Symbol.asyncIterator]();
  let outcome: 'ok' | ErrorCode = 'ok';
  try {
    for (;;) {
      const step = await operation.run(() => iterator.next());
      if (step.done) return;
      yield step.value;
    }
  } catch (error) {
    outcome = toAppError(error, '').code;
    throw error;
  } finally {
    operation.end(outcome, null, null);
    await iterator.return?.();
  }
}

/** What answers of the three services may say of themselves. */
interface SaysWhat {
  readonly name?: unknown;
  readonly version?: unknown;
  readonly properties?: { readonly name?: unknown; readonly version?: unknown };
  readonly keyId?: unknown;
}

function nameIn(answer: unknown): string | null {
  const { name, properties } = Object(answer) as SaysWhat;
  return nameOrNull(properties?.name ?? name);
}

function versionIn(answer: unknown): string | null {
  const { version, properties, keyId } = Object(answer) as SaysWhat;
  const ofKey = typeof keyId === 'string' ? keyId.slice(keyId.lastIndexOf('/') + 1) : undefined;
  return versionOrNull(properties?.version ?? version ?? ofKey);
}
