import { app } from '@azure/functions';
import { bootSettings, configFromEnvironment } from '../core/app.ts';
import { registerHttp } from './http.ts';
import { registerQueues } from './queues.ts';
import { registerTelemetry } from './telemetry.ts';
import { registerTimers } from './timers.ts';
import { registerVaultEvents } from './vault-events.ts';

const boot = bootSettings();
// A broken setting stops the worker at its start, with every fault named, not at the first event.
app.hook.appStart(() => void configFromEnvironment());
registerTelemetry();
if (boot.role !== 'engine') registerHttp();
if (boot.role !== 'api') {
  registerVaultEvents();
  registerQueues(boot);
  registerTimers(boot);
}
