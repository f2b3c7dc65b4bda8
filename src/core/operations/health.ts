import { z } from 'zod';
import { AppError, toAppError } from '../errors.ts';
import { errorFields } from '../log.ts';
import { type CallContext, operation } from './operation.ts';

export interface HealthServices {
  readonly version: string;
  /** By name: resolves when all is well, throws AppError when not. */
  readonly checks: Readonly<Record<string, () => Promise<void>>>;
  /** For each check; default 3,000. */
  readonly checkDeadlineMs?: number;
}

export const health = operation({
  id: 'health',
  summary: 'Says that the process answers. Asks nothing else.',
  method: 'GET',
  route: 'health',
  allow: 'public',
  audit: 'none',
  returns: z.strictObject({ status: z.literal('ok'), version: z.string() }),
  errors: [],
  run: async (_input, { services }: CallContext<HealthServices, null>) => ({
    status: 'ok' as const,
    version: services.version,
  }),
});

const CheckResult = z.strictObject({
  status: z.enum(['ok', 'failing']),
  code: z.string().optional(),
  /** What to mend, for a fault of ours to mend: every one, one line each. */
  message: z.string().optional(),
  ms: z.int().nonnegative(),
});
type CheckResult = z.output<typeof CheckResult>;

export const healthDetails = operation({
  id: 'health-details',
  summary: 'Tries everything the service depends on.',
  method: 'GET',
  route: 'health/details',
  allow: 'Keyturn.Health.Read',
  audit: 'none',
  returns: z.strictObject({
    status: z.enum(['ok', 'failing']),
    version: z.string(),
    checks: z.record(z.string(), CheckResult),
  }),
  status: ({ status }) => (status === 'ok' ? 200 : 503),
  errors: [],
  run: async (_input, context: CallContext<HealthServices>) => {
    const { version, checks } = context.services;
    const results = await Promise.all(
      Object.entries(checks).map(async ([name, check]) => {
        return [name, await tryCheck(name, check, context)] as const;
      }),
    );
    const isFailing = results.some(([, result]) => result.status === 'failing');
    const status = isFailing ? ('failing' as const) : ('ok' as const);
    return { status, version, checks: Object.fromEntries(results) };
  },
});

async function tryCheck(
  name: string,
  check: () => Promise<void>,
  { services, log }: CallContext<HealthServices>,
): Promise<CheckResult> {
  const startedAt = performance.now();
  const elapsed = () => Math.round(performance.now() - startedAt);
  const { promise: overdue, reject } = Promise.withResolvers<never>();
  const deadlineMs = services.checkDeadlineMs ?? 3_000;
  const timer = setTimeout(() => {
    reject(new AppError('internal', { detail: `check ${name}: no answer in ${deadlineMs} ms` }));
  }, deadlineMs);
  try {
    await Promise.race([check(), overdue]);
    return { status: 'ok', ms: elapsed() };
  } catch (error) {
    log.warn('health.check_failed', { check: name, ...errorFields(error) });
    const { code, detail } = toAppError(error, name);
    // Only this code's detail is written for whoever keeps the settings, who also reads this.
    const cure = code === 'bad_configuration' ? { message: detail } : {};
    return { status: 'failing', code, ...cure, ms: elapsed() };
  } finally {
    clearTimeout(timer);
  }
}
