/** Services that answer `get` from the cache, and tell what they have changed. Everything else goes straight on. */
import { hasCode, toAppError } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import { type Answered, type Answering, answered, type Reads } from './answer.ts';
import { cacheKey, type ObjectCache, scopePrefix } from './cache.ts';
import type { Sealing } from './cache-content.ts';
import type { CertificateService } from './certificates.ts';
import type { KeyService } from './keys.ts';
import type { Observer, ReadSource } from './observer.ts';
import type { ObjectType, SecretService, SecretVersion } from './ports.ts';
import type { VaultCallInfo } from './vault-error.ts';

export interface CacheTools {
  readonly vault: { readonly alias: string; readonly url: string };
  readonly cache: ObjectCache;
  /** Drops objects, named by prefix and name, here and wherever else they may be cached. It never throws. */
  readonly changed: (objects: readonly string[]) => Promise<void>;
  readonly observer?: Observer | undefined;
}

export function cachedSecrets(inner: SecretService, tools: CacheTools): Answering<SecretService> {
  const get = cachedGet(inner, tools, { type: 'secret', sealing: secretSealing });
  return { ...inner, ...tellWrites(inner, secretWrites, tellChanged(tools, 'secret')), get };
}

export function cachedKeys(inner: KeyService, tools: CacheTools): Answering<KeyService> {
  const get = cachedGet(inner, tools, { type: 'key', sealing: null });
  return { ...inner, ...tellWrites(inner, keyWrites, tellChanged(tools, 'key')), get };
}

export function cachedCertificates(
  inner: CertificateService,
  tools: CacheTools,
): Answering<CertificateService> {
  const get = cachedGet(inner, tools, { type: 'certificate', sealing: null });
  // A certificate brings its key and its secret along.
  const changed = tellChanged(tools, 'certificate', 'key', 'secret');
  const getOperation: CertificateService['getOperation'] = async (name) => {
    const operation = await inner.getOperation(name);
    if (operation.status === 'completed') await changed(name);
    return operation;
  };
  return { ...inner, ...tellWrites(inner, certificateWrites, changed), getOperation, get };
}

/** `inner`, uncached, which tells what it has changed: for whoever writes beside a cache, in another process too. */
export function tellingSecrets(
  inner: SecretService,
  tools: Pick<CacheTools, 'vault' | 'changed'>,
): SecretService {
  return { ...inner, ...tellWrites(inner, secretWrites, tellChanged(tools, 'secret')) };
}

const keptKeys = 10_000;

const secretWrites = [
  ...(['set', 'update', 'delete', 'recover', 'purge', 'restore', 'erase'] as const),
] as const satisfies readonly (keyof SecretService)[];
const keyWrites = [
  ...(['create', 'import', 'rotate', 'update', 'delete', 'recover', 'purge', 'restore'] as const),
] as const satisfies readonly (keyof KeyService)[];
const certificateWrites = [
  ...(['create', 'import', 'merge', 'update', 'updatePolicy'] as const),
  ...(['delete', 'recover', 'purge', 'restore'] as const),
] as const satisfies readonly (keyof CertificateService)[];

const secretSealing: Sealing = {
  take: (secret) => {
    const { value, ...rest } = secret as SecretVersion;
    return { rest, secret: value.expose() };
  },
  give: (rest, secret) => ({ ...rest, value: new SecretString(secret) }),
};

function cachedGet<Service extends Reads>(
  inner: Service,
  { vault, cache, observer = {} }: CacheTools,
  { type, sealing }: { readonly type: ObjectType; readonly sealing: Sealing | null },
): Answering<Service>['get'] {
  const keyOf = cacheKeys(scopePrefix(vault.url, type));
  const operation = `get${type.charAt(0).toUpperCase()}${type.slice(1)}`;
  const get = (name: string, version?: string): Promise<Answered<object>> => {
    const key = keyOf(name, version);
    const load = () => inner.get(name, version);
    if (key === null) return load().then((value) => answered(value));
    if (observer.readEnded !== undefined) {
      const call = { vault: vault.alias, operation, object: name };
      return watched(observer, call, (tell) => cache.get({ key, load, sealing, tell }));
    }
    const hit = cache.fresh(key);
    return hit === null ? cache.get({ key, load, sealing }) : Promise.resolve(hit);
  };
  // The cache gives what `load` gave for the same name and version.
  return get as Answering<Service>['get'];
}

/**
 * The key of an object's version; null for what no vault would take, which could be made to look like another
 * key, and is for the service to refuse.
 */
function cacheKeys(prefix: string): (name: string, version?: string) => string | null {
  // To make a key and to hash it costs more than all the rest of a hit.
  const latest = new Map<string, string>();
  const isName = (name: string) => /^[0-9a-z-]{1,127}$/i.test(name);
  return (name, version) => {
    if (version !== undefined) {
      const isKey = isName(name) && /^[0-9a-f]{32}$/i.test(version);
      return isKey ? cacheKey(`${prefix}${name.toLowerCase()}`, version) : null;
    }
    const known = latest.get(name);
    if (known !== undefined) return known;
    if (!isName(name)) return null;
    const key = cacheKey(`${prefix}${name.toLowerCase()}`, undefined);
    if (latest.size >= keptKeys) latest.clear();
    latest.set(name, key);
    return key;
  };
}

async function watched<T>(
  observer: Observer,
  call: VaultCallInfo,
  read: (tell: (source: ReadSource) => void) => Promise<T>,
): Promise<T> {
  const start = performance.now();
  let source: ReadSource = 'miss';
  const measured = () => ({ source, ms: performance.now() - start });
  try {
    const answer = await read((from) => {
      source = from;
    });
    observer.readEnded?.(call, { outcome: 'ok', ...measured() });
    return answer;
  } catch (error) {
    observer.readEnded?.(call, { outcome: toAppError(error, '').code, ...measured() });
    throw error;
  }
}

function tellChanged(
  { vault, changed }: Pick<CacheTools, 'vault' | 'changed'>,
  ...types: readonly ObjectType[]
): (name: string) => Promise<void> {
  const prefixes = types.map((type) => scopePrefix(vault.url, type));
  return (name) => changed(prefixes.map((prefix) => `${prefix}${name.toLowerCase()}`));
}

/** The named methods of `service`; each tells the name of its object when it is over, however it ended. */
function tellWrites<Service extends object, Method extends keyof Service>(
  service: Service,
  methods: readonly Method[],
  changed: (name: string) => Promise<void>,
): Pick<Service, Method> {
  const entries = methods.map((method) => {
    const write = (service[method] as (...given: unknown[]) => Promise<unknown>).bind(service);
    const telling = async (...given: unknown[]) => {
      try {
        const answer = await write(...given);
        await changed(nameOf(given[0], answer));
        return answer;
      } catch (error) {
        // Of what was sent and failed, nobody knows what it has done.
        if (!hasCode(error, 'invalid_input')) await changed(nameOf(given[0], null));
        throw error;
      }
    };
    return [method, telling];
  });
  return Object.fromEntries(entries) as Pick<Service, Method>;
}

/** Writes take the name first; a restore, which takes a backup, answers with it. */
function nameOf(first: unknown, answer: unknown): string {
  if (typeof first === 'string') return first;
  const { name, properties } = Object(answer) as { name?: string; properties?: { name?: string } };
  return name ?? properties?.name ?? '';
}
