// @peculiar/x509 stands on tsyringe, which refuses to load without the decorator metadata functions and uses these
// four. They are not part of Node, and a package for four functions is not worth another dependency.
type Metadata = Map<string, unknown>;

const targets = new WeakMap<object, Metadata>();

function define(key: string, value: unknown, target: object): void {
  const metadata = targets.get(target) ?? new Map<string, unknown>();
  metadata.set(key, value);
  targets.set(target, metadata);
}

function getOwn(key: string, target: object): unknown {
  return targets.get(target)?.get(key);
}

function get(key: string, target: object): unknown {
  for (
    let at: object | null = target;
    at !== null;
    at = Object.getPrototypeOf(at) as object | null
  ) {
    if (targets.get(at)?.has(key)) return getOwn(key, at);
  }
  return undefined;
}

function metadata(key: string, value: unknown): (target: object) => void {
  return (target) => define(key, value, target);
}

if (!('getMetadata' in Reflect)) {
  Object.assign(Reflect, {
    defineMetadata: define,
    getOwnMetadata: getOwn,
    getMetadata: get,
    metadata,
  });
}
