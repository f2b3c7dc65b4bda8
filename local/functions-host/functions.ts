import type { Log } from './log.ts';
import { messageOf } from './log.ts';
import { parseRoute, type RouteTemplate, shadows } from './routes.ts';
import { parseSchedule, type Schedule } from './schedule.ts';
import { resolveSettings } from './settings.ts';
import type { Binding, FunctionMetadata } from './worker/protocol.ts';

export type TriggerBinding =
  | {
      readonly type: 'http';
      readonly binding: string;
      readonly route: RouteTemplate;
      readonly methods: readonly string[];
      readonly authLevel: 'anonymous' | 'function' | 'admin';
    }
  | {
      readonly type: 'timer';
      readonly binding: string;
      readonly schedule: Schedule;
      readonly runOnStartup: boolean;
      readonly useMonitor: boolean;
    }
  | {
      readonly type: 'queue';
      readonly binding: string;
      readonly queueName: string;
      readonly connection: string | undefined;
    }
  | { readonly type: 'eventGrid'; readonly binding: string };

export interface LoadedFunction {
  readonly name: string;
  readonly metadata: FunctionMetadata;
  /** The trigger with its `%SETTING%`s replaced. */
  readonly trigger: TriggerBinding;
  readonly disabled: boolean;
}

/**
 * What the app registered as functions this host can serve, sorted by name ignoring case: the order
 * in which routes are tried.
 * @throws Error that lists every fault: names, triggers, bindings, routes, settings, schedules
 */
export function checkFunctions(
  registered: readonly FunctionMetadata[],
  env: NodeJS.ProcessEnv,
  log: Log,
): readonly LoadedFunction[] {
  const faults: string[] = [];
  const checked: LoadedFunction[] = [];
  for (const metadata of registered) {
    const { name } = metadata;
    try {
      const trigger = checkOne(metadata, env);
      checked.push({ name, metadata, trigger, disabled: isDisabled(name, env) });
      if (metadata.retryOptions !== undefined && trigger.type !== 'timer') {
        log.warn(`${name}: its retry policy has no effect, Azure retries only timers by one`);
      }
    } catch (error) {
      faults.push(`function '${metadata.name}': ${messageOf(error)}`);
    }
  }
  checked.sort((a, b) => compareNames(a.name, b.name));
  faults.push(...checkRoutes(checked, log));
  if (faults.length > 0) throw new Error(`the app cannot be served: ${faults.join('; ')}`);
  return checked;
}

function isDisabled(name: string, env: NodeJS.ProcessEnv): boolean {
  const value = env[`AzureWebJobs.${name}.Disabled`] ?? env[`AzureWebJobs__${name}__Disabled`];
  return value === '1' || value?.toLowerCase() === 'true';
}

function compareNames(a: string, b: string): number {
  const [left, right] = [a.toUpperCase(), b.toUpperCase()];
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

function checkOne(metadata: FunctionMetadata, env: NodeJS.ProcessEnv): TriggerBinding {
  if (!/^[a-z][a-z0-9_-]{0,127}$/i.test(metadata.name) || metadata.name.toLowerCase() === 'host') {
    throw new Error(
      'this name is not allowed: a letter, then at most 127 letters, digits, - and _; not host',
    );
  }
  const bindings = Object.entries(metadata.bindings);
  const triggers = bindings.filter(([, binding]) => /trigger$/i.test(binding.type));
  const [trigger] = triggers;
  if (trigger === undefined || triggers.length > 1)
    throw new Error(`has ${triggers.length} triggers, needs one`);
  for (const [name, binding] of bindings) {
    if (name !== trigger[0]) checkOther(binding, env);
  }
  return checkTrigger(trigger[0], trigger[1], metadata, env);
}

function checkOther(binding: Binding, env: NodeJS.ProcessEnv): void {
  const kind = `${binding.direction} ${binding.type.toLowerCase()}`;
  if (kind === 'out queue') queueName(binding, env);
  else if (kind !== 'out http')
    throw new Error(`binding "${kind}" is not served by this local host, only out queue is`);
}

function checkTrigger(
  name: string,
  binding: Binding,
  metadata: FunctionMetadata,
  env: NodeJS.ProcessEnv,
): TriggerBinding {
  switch (binding.type.toLowerCase()) {
    case 'httptrigger':
      return checkHttp(name, binding, metadata.name);
    case 'timertrigger':
      return {
        type: 'timer',
        binding: name,
        schedule: parseSchedule(resolveSettings(String(binding['schedule']), env), timeZone(env)),
        runOnStartup: binding['runOnStartup'] === true,
        useMonitor: binding['useMonitor'] !== false,
      };
    case 'queuetrigger':
      return {
        type: 'queue',
        binding: name,
        queueName: queueName(binding, env),
        connection: typeof binding['connection'] === 'string' ? binding['connection'] : undefined,
      };
    case 'eventgridtrigger':
      if (String(binding['cardinality'] ?? 'one').toLowerCase() !== 'one') {
        throw new Error('cardinality "many" is not served by this local host; remove it');
      }
      return { type: 'eventGrid', binding: name };
    default:
      throw new Error(
        `trigger type "${binding.type}" is not served by this local host; name the other functions in "functions" of host.json to run without it`,
      );
  }
}

// Names are lower-cased by the host; what storage would still refuse is refused here.
function queueName(binding: Binding, env: NodeJS.ProcessEnv): string {
  const name = resolveSettings(String(binding['queueName']), env).toLowerCase();
  if (name.length < 3 || name.length > 63 || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) {
    throw new Error(`queue name "${name}" is not allowed`);
  }
  return name;
}

function timeZone(env: NodeJS.ProcessEnv): string {
  return env['WEBSITE_TIME_ZONE'] ?? env['TZ'] ?? 'UTC';
}

function checkHttp(name: string, binding: Binding, functionName: string): TriggerBinding {
  const text = typeof binding['route'] === 'string' ? binding['route'] : functionName;
  if (/^\/*(admin|runtime)/i.test(text)) {
    throw new Error('The specified route conflicts with one or more built in routes.');
  }
  const level = String(binding['authLevel'] ?? 'anonymous').toLowerCase();
  if (level !== 'anonymous' && level !== 'function' && level !== 'admin') {
    throw new Error(`authLevel "${level}" is unknown`);
  }
  const methods = Array.isArray(binding['methods']) ? binding['methods'].map(String) : [];
  return {
    type: 'http',
    binding: name,
    route: parseRoute(text),
    methods: methods.map((method) => method.toUpperCase()),
    authLevel: level,
  };
}

function checkRoutes(functions: readonly LoadedFunction[], log: Log): string[] {
  const faults: string[] = [];
  const routes = functions.flatMap(({ name, trigger }) =>
    trigger.type === 'http' ? [{ name, ...trigger }] : [],
  );
  routes.forEach((second, index) => {
    for (const first of routes.slice(0, index)) {
      const common = second.methods.some((method) => first.methods.includes(method));
      if (!common) continue;
      if (first.route.text.toLowerCase() === second.route.text.toLowerCase()) {
        faults.push(
          `function '${second.name}': The route specified conflicts with the route defined by function '${first.name}'.`,
        );
      } else if (shadows(first.route, second.route)) {
        log.warn(
          `route "${first.route.text}" of ${first.name} hides "${second.route.text}" of ${second.name}`,
        );
      }
    }
  });
  return faults;
}
