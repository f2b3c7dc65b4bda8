import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  type CoreApi,
  createCoreApi,
  type FunctionCallback,
  type FunctionMetadata,
  installCoreApi,
  type ProgrammingModel,
} from './core-api.ts';
import type { Log } from './log.ts';
import type { HostConfig } from './settings.ts';
import { checkFunctions, type TriggerBinding } from './validate.ts';

export interface LoadedFunction {
  readonly name: string;
  readonly metadata: FunctionMetadata;
  readonly callback: FunctionCallback;
  /** The trigger with its `%SETTING%`s replaced. */
  readonly trigger: TriggerBinding;
  readonly disabled: boolean;
}

export interface LoadedApp {
  /** Sorted by name, ignoring case: the order in which routes are tried. */
  readonly functions: readonly LoadedFunction[];
  readonly core: CoreApi;
  readonly model: ProgrammingModel;
  /** Shared by all hooks of the app for its whole life. */
  readonly hookData: Record<string, unknown>;
}

/**
 * Loads a built v4 app unchanged into this process: entry files one after another, `appStart`
 * hooks, capabilities, then no more registrations. Source: azure-functions-nodejs-worker, eventHandlers.
 * @throws Error on anything the app or its configuration gets wrong (the cloud would show 0 functions)
 */
export async function loadApp(appDir: string, config: HostConfig, log: Log): Promise<LoadedApp> {
  const core = createCoreApi(log);
  installCoreApi(core);
  for (const file of entryFiles(appDir)) await loadScript(file.path, file.isModule);
  const hookData: Record<string, unknown> = {};
  for (const hook of core.hooks('appStart')) await hook({ hookData });
  const model = core.model();
  if (model === null || core.registrations().length === 0) {
    throw new Error('the app registered no function (is the main of its package.json right?)');
  }
  const capabilities = await model.getCapabilities({});
  if (capabilities['HttpUri'] !== undefined) {
    throw new Error(
      'the app sets enableHttpStream: HTTP streaming is not served by this local host',
    );
  }
  core.lock();
  const wanted = config.functions;
  const registrations = core
    .registrations()
    .filter(({ metadata }) => wanted === null || wanted.includes(metadata.name));
  const functions = checkFunctions(registrations, process.env, log).map((checked) => ({
    ...checked,
    disabled: isDisabled(checked.name),
  }));
  return { functions, core, model, hookData };
}

function isDisabled(name: string): boolean {
  const value =
    process.env[`AzureWebJobs.${name}.Disabled`] ?? process.env[`AzureWebJobs__${name}__Disabled`];
  return value === '1' || value?.toLowerCase() === 'true';
}

function entryFiles(appDir: string): readonly { path: string; isModule: boolean }[] {
  const file = join(appDir, 'package.json');
  // JSON.parse gives unknown shapes; only these two members are read, and checked.
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as { main?: unknown; type?: unknown };
  if (typeof manifest.main !== 'string') throw new Error(`${file}: main is missing`);
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
