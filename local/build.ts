import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { build, stop } from 'esbuild';

const usage = `npm run build: makes dist/, the package as it is deployed.

  --quiet   print nothing but faults
  --help    this text`;

/**
 * Bundles the app into `target`: host.json, a minimal package.json, one entry and chunks for what
 * loads lazily. `@azure/functions-core` stays outside: the worker provides it.
 *
 * @returns total bytes of JavaScript
 */
export async function buildApp(target = 'dist'): Promise<number> {
  // Made beside and moved into place: who starts meanwhile never loads half of it.
  const out = `${target}.${process.pid}`;
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  const result = await build({
    entryPoints: { main: 'src/functions/main.ts' },
    outdir: out,
    chunkNames: 'chunks/[name]-[hash]',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node22',
    minify: true,
    metafile: true,
    logLevel: 'warning',
    external: ['@azure/functions-core', 'pg-native'],
    // CommonJS packages call `require` for Node's own modules, which an ES module does not have.
    banner: {
      js: "import{createRequire as keyturnRequire}from'node:module';const require=keyturnRequire(import.meta.url);",
    },
  });
  // Its service would otherwise outlive us for a moment.
  await stop();
  const { name, version } = JSON.parse(await readFile('package.json', 'utf8'));
  const manifest = { name, version, type: 'module', main: 'main.mjs' };
  await writeFile(`${out}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
  await cp('host.json', `${out}/host.json`);
  await rm(target, { recursive: true, force: true });
  await rename(out, target);
  return Object.values(result.metafile.outputs).reduce((sum, output) => sum + output.bytes, 0);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { quiet: { type: 'boolean' }, help: { type: 'boolean' } },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const bytes = await buildApp();
  if (!values.quiet) console.log(`dist/ is built: ${(bytes / 1024).toFixed(0)} KiB of JavaScript`);
}

if (import.meta.main ?? process.argv[1]?.endsWith('build.ts')) await main();
