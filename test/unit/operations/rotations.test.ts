import { describe, expect, it } from 'vitest';
import { operations, serve } from '../../../src/core/operations/index.ts';
import { createWorld } from '../../support/rotation-world.ts';
import { aCaller, aRequest, someServices } from './support.ts';

const path = { vault: 'main', name: 'orders-db' };

/** The operations over an engine in memory, called by an operator. */
async function anApi(options: Parameters<typeof createWorld>[0] = {}) {
  const world = createWorld(options);
  await world.seed();
  const engine = world.start();
  const { services, entries } = someServices(aCaller('Keyturn.Rotations.Operate'));
  const call = async (id: string, request: Parameters<typeof aRequest>[0] = {}) => {
    const operation = operations.find((one) => one.id === id)!;
    const all = { ...services, engine: engine.services, version: '0', checks: {} };
    const answer = await serve(operation, aRequest({ method: operation.method, ...request }), all);
    return { status: answer.status, body: JSON.parse(answer.body ?? 'null') };
  };
  const start = async () => (await call('start-rotation', { params: path })).body.id as string;
  return { world, engine, call, start, entries };
}

describe('the rotation operations', () => {
  it('start a rotation under the caller’s name, audited before and after', async () => {
    const { world, engine, call, entries } = await anApi();
    const { status, body } = await call('start-rotation', { params: path });
    expect(status).toBe(202);
    await world.drain(engine);
    const found = await call('get-rotation', { params: { id: body.id } });
    expect(found.body).toMatchObject({
      id: body.id,
      object: { vault: 'main', type: 'secret', name: 'orders-db' },
      state: 'DONE',
      ended: true,
      requestedBy: 'subject-1',
      policy: 'orders',
    });
    expect(entries.map((entry) => entry.outcome)).toEqual(['intended', 'done']);
  });

  it('start nothing in a vault that is not configured or not for people', async () => {
    const { world, call } = await anApi();
    for (const vault of ['other', 'pending']) {
      const { status, body } = await call('start-rotation', { params: { ...path, vault } });
      expect([status, body.code]).toEqual([404, 'not_found']);
    }
    expect(world.rotations.take()).toBeNull();
  });

  it('plan without changing anything', async () => {
    const { world, call } = await anApi();
    const before = (await world.latest()).properties.version;
    const { status, body } = await call('plan-rotation', { params: path });
    expect(status).toBe(200);
    expect(body).toMatchObject({ decision: 'start', policy: 'orders', baseVersion: before });
    expect(body.steps.length).toBeGreaterThan(3);
    expect((await world.latest()).properties.version).toBe(before);
    expect(await world.journals()).toEqual([]);
  });

  it('say which object has no policy', async () => {
    const { call } = await anApi();
    const { body } = await call('plan-rotation', { params: { ...path, name: 'db-admin' } });
    expect(body).toMatchObject({ decision: 'skip', reason: 'no_policy', steps: [] });
  });

  it('list rotations newest first, page by page, of one object or of all', async () => {
    const { world, engine, call, start } = await anApi();
    const ids: string[] = [];
    for (let index = 0; index < 3; index++) {
      ids.unshift(await start());
      await world.drain(engine);
      world.pass(1);
    }
    const first = await call('list-rotations', { query: { limit: '2' } });
    expect(first.body.rotations.map((one: { id: string }) => one.id)).toEqual(ids.slice(0, 2));
    const next = await call('list-rotations', { query: { limit: '2', before: first.body.before } });
    expect(next.body.rotations.map((one: { id: string }) => one.id)).toEqual(ids.slice(2));
    expect(next.body.before).toBeNull();
    const other = await call('list-rotations', { query: { vault: 'main', name: 'other' } });
    expect(other.body.rotations).toEqual([]);
  });

  it('want vault and name together', async () => {
    const { call } = await anApi();
    const { status, body } = await call('list-rotations', { query: { vault: 'main' } });
    expect([status, body.code]).toEqual([400, 'invalid_input']);
  });

  it('cancel what waits, and say when it is too late', async () => {
    const { world, engine, call, start } = await anApi();
    world.server.fault = () => {
      throw new Error('down');
    };
    const id = await start();
    await world.drain(engine);
    expect((await call('cancel-rotation', { params: { id } })).status).toBe(202);
    world.server.fault = null;
    await world.converge(engine);
    const ended = await call('get-rotation', { params: { id } });
    expect(ended.body).toMatchObject({ state: 'FAILED_CLEAN', outcome: { code: 'cancelled' } });
    const again = await call('cancel-rotation', { params: { id } });
    expect([again.status, again.body.code]).toEqual([409, 'not_cancellable']);
  });

  it('resume nothing that is not held', async () => {
    const { world, engine, call, start } = await anApi();
    const id = await start();
    await world.drain(engine);
    const { status, body } = await call('resume-rotation', { params: { id } });
    expect([status, body.code]).toEqual([409, 'conflict']);
  });

  it('show a rotation as soon as it is asked for', async () => {
    const { call, start } = await anApi();
    const id = await start();
    const { status, body } = await call('get-rotation', { params: { id } });
    expect([status, body.state]).toEqual([200, 'REQUESTED']);
    expect((await call('list-rotations')).body.rotations).toMatchObject([{ id }]);
  });

  it('retire an old login before its time, and only in its grace period', async () => {
    const { world, engine, call, start, entries } = await anApi({ overlap: 'users' });
    const id = await start();
    const early = await call('retire-rotation-now', { params: { id } });
    expect([early.status, early.body.code]).toEqual([409, 'conflict']);
    await world.drain(engine);
    const taken = await call('retire-rotation-now', { params: { id } });
    expect([taken.status, taken.body.state]).toEqual([202, 'GRACE']);
    expect(entries.at(-1)).toMatchObject({ rotationId: id, outcome: 'done', actor: 'object-1' });
    await world.drain(engine);
    expect((await call('get-rotation', { params: { id } })).body.state).toBe('DONE');
    expect(world.server.logins.get('app_a')).toBe('retired');
  });

  it('roll back to the version before, under a new id', async () => {
    const { world, engine, call, start, entries } = await anApi();
    const first = await world.latest();
    const id = await start();
    await world.drain(engine);
    world.pass(1);
    const { status, body } = await call('roll-back-rotation', { params: { id } });
    expect(status).toBe(202);
    expect(entries.at(-1)).toMatchObject({ rotationId: id, detail: { toVersion: null } });
    const found = await call('get-rotation', { params: { id: body.id } });
    expect(found.body).toMatchObject({
      state: 'REQUESTED',
      reason: 'rollback',
      rollbackOf: id,
      toVersion: first.properties.version,
      requestedBy: 'subject-1',
    });
    await world.drain(engine);
    expect((await world.latest()).value.equals(first.value)).toBe(true);
  });

  it('roll back to a version that is named', async () => {
    const { world, engine, call, start } = await anApi();
    const { version } = (await world.latest()).properties;
    const id = await start();
    await world.drain(engine);
    const skipped = await start();
    const json = { toVersion: version };
    const { body } = await call('roll-back-rotation', { params: { id: skipped }, json });
    const found = await call('get-rotation', { params: { id: body.id } });
    expect(found.body).toMatchObject({ rollbackOf: skipped, toVersion: version });
    expect(found.body.rollbackOf).not.toBe(id);
  });

  it.each([
    ['of the wrong form', { toVersion: 'v1' }, 'body.toVersion'],
    ['in a body of its own form', { version: 'a'.repeat(32) }, 'body.version'],
  ])('refuse a version %s', async (_what, json, field) => {
    const { world, call, start } = await anApi();
    const id = await start();
    world.rotations.take();
    const { status, body } = await call('roll-back-rotation', { params: { id }, json });
    expect([status, body.code]).toEqual([400, 'invalid_input']);
    expect(JSON.stringify(body)).toContain(field);
    expect(world.rotations.take()).toBeNull();
  });

  it('roll back nothing that has replaced nothing', async () => {
    const { call, start } = await anApi();
    const { status, body } = await call('roll-back-rotation', { params: { id: await start() } });
    expect([status, body.code]).toEqual([409, 'conflict']);
  });

  it.each(['retire-rotation-now', 'roll-back-rotation'])(
    'know no other rotation to %s',
    async (id) => {
      const { call } = await anApi();
      const params = { id: '01ARZ3NDEKTSV4RRFFQ69G5FAV' };
      expect((await call(id, { params })).status).toBe(404);
    },
  );

  it('answer 404 for a rotation nobody asked for', async () => {
    const { call } = await anApi();
    const { status, body } = await call('get-rotation', {
      params: { id: '01ARZ3NDEKTSV4RRFFQ69G5FAV' },
    });
    expect([status, body.code]).toEqual([404, 'not_found']);
  });
});
