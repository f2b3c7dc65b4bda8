import { randomUUID } from 'node:crypto';
import { systemClock } from '../src/core/clock.ts';
import { SecretString } from '../src/core/secret-string.ts';
import { simulatedVaults } from '../src/core/simulation/vault.ts';
import { ObjectCache, vaultCache } from '../src/core/vault/cache.ts';
import { cachedSecrets } from '../src/core/vault/cached.ts';
import type { SecretService, SecretVersion } from '../src/core/vault/ports.ts';

// Prints the bytes that COUNT cached secrets take, each; with `sealed`, as they lie in a sealed cache.
// node --expose-gc bench/cache-heap.ts COUNT [sealed]

const count = Number(process.argv[2]);
const sealed = process.argv[3] === 'sealed';
const vault = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock).get('main');

/** Any secret there is: 32 characters, and a version of its own. */
async function anySecret(name: string): Promise<SecretVersion> {
  const version = randomUUID().replaceAll('-', '');
  const [created, updated] = [new Date(), new Date()];
  return {
    properties: {
      ...{ name, version, enabled: true, created, updated, notBefore: null, expiresOn: null },
      ...{ contentType: null, tags: {}, managed: false },
    },
    value: new SecretString(randomUUID().replaceAll('-', '')),
  };
}

async function fill(cache: ObjectCache, wanted: number): Promise<SecretService> {
  const inner = { ...vault.secrets, get: anySecret };
  const secrets = cachedSecrets(inner, { vault, cache, changed: async () => undefined });
  for (let n = 0; n < wanted; n++) await secrets.get(`secret-number-${n}`);
  return secrets;
}

function heapBytes(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// Once, so that what every process has is there.
await fill(new ObjectCache(), 100);
const before = heapBytes();
const cache = new ObjectCache({ ...vaultCache, maxEntries: count, sealed });
const secrets = await fill(cache, count);
const bytes = (heapBytes() - before) / count;
if (cache.size !== count) throw new Error(`${cache.size} of ${count} secrets are cached`);
// Still in use: neither may have been collected.
await secrets.get('secret-number-0');
process.stdout.write(`${bytes}\n`);
process.exit();
