import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';

/** Bundles the sample app as a deployable package into `dir`, the way the product is bundled. */
export async function buildSampleApp(dir: string): Promise<void> {
  await build({
    entryPoints: [join(import.meta.dirname, 'main.mjs')],
    outfile: join(dir, 'main.mjs'),
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    external: ['@azure/functions-core'],
    banner: {
      js: "import{createRequire as c}from'node:module';const require=c(import.meta.url);",
    },
  });
  const host = {
    version: '2.0',
    extensions: {
      http: { routePrefix: 'v1', customHeaders: { 'X-Custom': 'host', 'X-Own': 'host' } },
      queues: { maxDequeueCount: 2, visibilityTimeout: '00:00:00', batchSize: 4 },
    },
  };
  const settings = {
    IsEncrypted: false,
    Values: { SAMPLE_QUEUE: 'Sample-In', SAMPLE_YEARLY: '0 0 0 1 1 *' },
    Host: { CORS: 'https://portal.example' },
  };
  const manifest = { name: 'sample', version: '1.0.0', type: 'module', main: 'main.{mjs,cjs}' };
  await writeFile(join(dir, 'host.json'), JSON.stringify(host));
  await writeFile(join(dir, 'local.settings.json'), JSON.stringify(settings));
  await writeFile(join(dir, 'package.json'), JSON.stringify(manifest));
}
