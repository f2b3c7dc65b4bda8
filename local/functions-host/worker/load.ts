import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type CoreApi, installCoreApi, type ProgrammingModel } from './core-api.ts';

export interface LoadedApp {
  readonly core: CoreApi;
  readonly model: ProgrammingModel;
  /** Shared by all hooks of the app for its whole life. */
  readonly hookData: Record<string, unknown>;
  /** Where the programming model serves HTTP itself; `null` unless the app sets enableHttpStream. */
  readonly httpUri: string | null;
}

/**
 * Loads a built v4 app unchanged into this thread: entry files one after another, `appStart`
 * hooks, capabilities, then no more registrations. Source: azure-functions-nodejs-worker, eventHandlers.
 * @throws Error on anything the app gets wrong (the cloud would show 0 functions)
 */
export async function loadApp(appDir: string, core: CoreApi): Promise<LoadedApp> {
  installCoreApi(core);
  for (const file of entryFiles(appDir)) await loadScript(file.path, file.isModule);
  const hookData: Record<string, unknown> = {};
  for (const hook of core.hooks('appStart')) await hook({ hookData });
  const model = core.model();
  if (model === null || core.registrations().length === 0) {
    throw new Error('the app registered no function (is the main of its package.json right?)');
  }
  const { HttpUri: httpUri = null } = await model.getCapabilities({});
  core.lock();
  return { core, model, hookData, httpUri };
}

function entryFiles(appDir: string): readonly { path: string; isModule: boolean }[] {
  const file = join(appDir, 'package.json');
  // JSON.parse gives unknown shapes; only these two members are read, and checked.
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as { main?: unknown; type?: unknown };
  if (typeof manifest.main !== 'string') {
    throw new Error(`${file}: main is missing; name the built entry file in it`);
  }
  const main = manifest.main.replace(/^\.\//, '');
  const found = /[*?[\]{}!]/.test(main) ? globSync(main, { cwd: appDir }).sort() : [main];
  if (found.length === 0) throw new Error(`${file}: main "${manifest.main}" matches no file`);
  return found.map((name) => ({
    path: resolve(appDir, name),
    isModule: name.endsWith('.mjs') || (!name.endsWith('.cjs') && manifest.type === 'module'),
  }));
}

async function loadScript(path: string, isModule: boolean): Promise<void> {
  try {
    if (isModule) await import(pathToFileURL(path).href);
    else createRequire(path)(path);
  } catch (cause) {
    throw new Error(`loading ${path} failed`, { cause });
  }
}
