import { type App, configFromEnvironment, createApp } from '../core/app.ts';

let app: App | null = null;

/** The one app of this process, made at the first invocation. */
export function keyturn(): App {
  app ??= createApp(configFromEnvironment());
  return app;
}
