import { Agent } from 'node:https';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { operations } from '../../local/key-vault/operations.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { urlOf } from './emulator-control.ts';
import { hostileRequests, knownNames } from './hostile-requests.ts';

// KEYTURN_FUZZ=20000 for a night's worth.
const runs = Number(process.env['KEYTURN_FUZZ'] ?? 1200);
const version = 'api-version=2026-04-01';

let ground: Ground;
let url: string;
let agent: Agent;

beforeAll(async () => {
  ground = await prepareGround();
  url = urlOf(await ground.startVaults());
  agent = new Agent({ keepAlive: true, maxSockets: 4, ca: ground.ca.caPem });
  await fill();
});
afterAll(async () => {
  agent.destroy();
  await ground.stop();
});

/** One of everything, so that not every request ends with a 404. */
async function fill(): Promise<void> {
  const make = async (method: string, path: string, body: unknown): Promise<void> => {
    const reply = await ground.call(`${url}${path}?${version}`, { method, body });
    expect([path, reply.status]).toEqual([path, expect.toSatisfy((status) => status < 300)]);
  };
  const subject = (issuer: string) => ({
    policy: {
      issuer: { name: issuer },
      key_props: { kty: 'EC', crv: 'P-256', exportable: true, reuse_key: false },
      x509_props: { subject: 'CN=x' },
      secret_props: { contentType: 'application/x-pem-file' },
    },
  });
  await make('PUT', '/secrets/secret', { value: 'v' });
  await make('PUT', '/secrets/gone', { value: 'v' });
  await make('DELETE', '/secrets/gone', undefined);
  await make('POST', '/keys/ec/create', { kty: 'EC' });
  await make('POST', '/keys/rsa/create', { kty: 'RSA' });
  await make('POST', '/keys/oct/create', { kty: 'oct-HSM' });
  await make('POST', '/certificates/cert/create', subject('Self'));
  await make('POST', '/certificates/pending/create', subject('Unknown'));
  expect(knownNames).toHaveLength(7);
}

describe('random requests', () => {
  it(`never get a 5xx, nor an error that says nothing, whatever they ask (${runs} of them)`, async () => {
    const log = vi.spyOn(console, 'error');
    const statuses = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(hostileRequests(operations), async ({ method, target, body }) => {
        const reply = await ground.call(`${url}${target}`, {
          method,
          agent,
          ...(body === undefined ? {} : { body }),
        });
        statuses.set(reply.status, (statuses.get(reply.status) ?? 0) + 1);
        expect(reply.status).toBeGreaterThanOrEqual(200);
        expect(reply.status).toBeLessThan(500);
        if (method === 'HEAD' || reply.status === 204) return;
        expect(reply.headers['content-type']).toBe('application/json; charset=utf-8');
        if (reply.status < 400) {
          expect(typeof reply.json).toBe('object');
        } else {
          expect(reply.json.error.code).toMatch(/./);
          expect(reply.json.error.message).toMatch(/./);
        }
      }),
      { numRuns: runs },
    );
    // What only ever hits the first check proves nothing.
    expect([...statuses.keys()]).toEqual(expect.arrayContaining([200, 400, 403, 404, 405, 409]));
    expect(statuses.get(200)).toBeGreaterThan(runs / 25);
    expect(log).not.toHaveBeenCalled();
  }, 600_000);

  it('reach every operation', async () => {
    const reached = new Set<string>();
    const router = (await import('../../local/key-vault/router.ts')).createRouter(operations);
    fc.assert(
      fc.property(hostileRequests(operations), ({ method, target }) => {
        try {
          reached.add(router(method, target.slice(0, target.indexOf('?'))).operation.id);
        } catch {
          // No operation's: also wanted.
        }
      }),
      { numRuns: 5000 },
    );
    expect([...reached].toSorted()).toEqual(
      [...new Set(operations.map(({ id }) => id))].toSorted(),
    );
  });
});
