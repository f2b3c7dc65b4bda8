import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { type HealthServices, health, healthDetails } from '../../../src/core/operations/health.ts';
import { serve } from '../../../src/core/operations/index.ts';
import { aCaller, aRequest, someServices } from './support.ts';

async function details(checks: HealthServices['checks'], role = 'Keyturn.Health.Read') {
  const { services, lines } = someServices(aCaller(role));
  const all = { ...services, version: '1.2.3', checks, checkDeadlineMs: 50 };
  const { status, body } = await serve(healthDetails, aRequest(), all);
  return { status, body: JSON.parse(body ?? ''), lines };
}

describe('health', () => {
  it('tells anyone that the process answers, and tries nothing', async () => {
    const { services } = someServices();
    const checks = { vault: () => Promise.reject(new Error('tried')) };
    const all = { ...services, version: '1.2.3', checks };
    const answer = await serve(health, aRequest({ headers: { authorization: '' } }), all);
    expect(answer).toMatchObject({ status: 200, body: '{"status":"ok","version":"1.2.3"}' });
  });
});

describe('health/details', () => {
  it('is for who may read it', async () => {
    expect(await details({}, 'Keyturn.Rotations.Operate')).toMatchObject({ status: 403 });
  });

  it('says that all is well', async () => {
    expect(await details({ storage: async () => {} })).toMatchObject({
      status: 200,
      body: { status: 'ok', version: '1.2.3', checks: { storage: { status: 'ok' } } },
    });
  });

  it('names what fails, by code, and what does not answer', async () => {
    const { status, body, lines } = await details({
      storage: async () => {},
      vault: () => Promise.reject(new AppError('vault_denied', { detail: 'operator words' })),
      queue: () => new Promise(() => {}),
      target: () => {
        throw new Error('at once');
      },
    });
    expect(status).toBe(503);
    expect(body).toMatchObject({
      status: 'failing',
      checks: {
        storage: { status: 'ok' },
        vault: { status: 'failing', code: 'vault_denied' },
        queue: { status: 'failing', code: 'internal' },
        target: { status: 'failing', code: 'internal' },
      },
    });
    expect(JSON.stringify(body)).not.toContain('operator');
    expect(lines.filter(({ event }) => event === 'health.check_failed').length).toBe(3);
  });

  it('says what to mend when the configuration is at fault', async () => {
    const detail = 'documents to mend:\n  orders.json: grace: write a duration';
    const { body } = await details({
      documents: () => Promise.reject(new AppError('bad_configuration', { detail })),
    });
    expect(body.checks.documents).toMatchObject({ code: 'bad_configuration', message: detail });
  });

  it('has a deadline of its own for each check', async () => {
    const { services } = someServices(aCaller('Keyturn.Health.Read'));
    const all = { ...services, version: '1', checks: { a: async () => {} } };
    expect((await serve(healthDetails, aRequest(), all)).status).toBe(200);
  });
});
