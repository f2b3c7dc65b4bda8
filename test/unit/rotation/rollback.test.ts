import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { handleRotation } from '../../../src/core/rotation/engine.ts';
import type { Overlap } from '../../../src/core/rotation/handler.ts';
import type { Journal } from '../../../src/core/rotation/journal.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import {
  cancelRotation,
  getRotation,
  releaseRotation,
  resumeRotation,
  rollBackRotation,
} from '../../../src/core/rotation/rotations.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import {
  createWorld,
  orders,
  refused,
  unreachable,
  type Watch,
  type World,
} from '../../support/rotation-world.ts';

const webhook = {
  kind: 'webhook',
  id: 'shop',
  url: 'https://shop.example.com/hook',
  signingSecret: { vault: 'main', name: 'webhook-shop' },
};
const main = (world: World) => world.vaults.get('main').secrets;

/** One rotation that has come to its end, or with two logins to its grace period. */
async function rotated(options: Parameters<typeof createWorld>[0] = {}) {
  const world = createWorld({ consumers: [webhook], ...options });
  await world.seed();
  const first = await world.latest();
  const id = await rotate(world);
  return { world, id, first };
}

async function rotate(world: World): Promise<string> {
  // So that ids, which begin with the time, are in the order of the requests.
  world.pass(1);
  const id = await world.request(world.start());
  await world.drain(world.start());
  return id;
}

async function rollBack(world: World, id: string, toVersion: string | null = null) {
  world.pass(1);
  const by = { requestedBy: 'ada', correlationId: 'undo' };
  return rollBackRotation(world.start().services, id, { ...by, toVersion });
}

async function find(world: World, id: string): Promise<Journal> {
  return (await world.journals()).find((journal) => journal.id === id)!;
}

async function expectNothingLeft(world: World): Promise<void> {
  const pending = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  expect(pending.map(({ name }) => name)).toEqual(['sealing-key']);
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  expect(await world.activeRows()).toEqual([]);
  expect((await world.verifyAudit()).faults).toEqual([]);
}

async function record(world: World) {
  return (await world.store.get(shardOf(orders), rowId.object(orders)))?.body;
}

/** Does `run` at the first call named `what`, before or after it. */
function once(when: 'before' | 'after', what: string, run: () => Promise<void> | void): Watch {
  let isDone = false;
  return {
    [when]: async (_call: number, name: string) => {
      if (isDone || name !== what) return;
      isDone = true;
      await run();
    },
  };
}

describe('a rollback', () => {
  it.each([
    ['none', 'fake', 'app'],
    ['users', 'fake', 'app_a'],
    ['none', 'generated', null],
  ] as const)(
    'makes the value before a rotation the latest again, overlap %s, %s',
    async (overlap, handler, login) => {
      const { world, id, first } = await rotated({ overlap, handler });
      const second = await world.latest();
      const undo = await rollBack(world, id);
      await world.drain(world.start());
      const latest = await world.latest();
      expect(latest.value.expose()).toBe(first.value.expose());
      expect(latest.properties.tags).toEqual({
        owner: 'shop',
        rotationId: undo,
        previousVersion: second.properties.version,
        rollbackOf: id,
        ...(login === null ? {} : { login }),
      });
      const days = 90 * 86_400_000;
      expect(latest.properties.expiresOn?.getTime()).toBe(world.clock.now().getTime() + days);
      if (handler === 'fake') expect(await world.latestLogsIn()).toBe(true);
      await world.converge();
      expect(await find(world, undo)).toMatchObject({
        state: 'DONE',
        reason: 'rollback',
        requestedBy: 'ada',
        correlationId: 'undo',
        outbox: ['shop'],
        outcome: null,
      });
      await expectNothingLeft(world);
    },
  );

  it('can be looked at as soon as it is asked for', async () => {
    const { world, id, first } = await rotated();
    const undo = await rollBack(world, id);
    expect(await getRotation(world.start().services, undo)).toMatchObject({
      state: 'REQUESTED',
      reason: 'rollback',
      rollbackOf: id,
      toVersion: first.properties.version,
      object: orders,
    });
  });

  it('happens once however often it is delivered', async () => {
    const { world, id } = await rotated({ overlap: 'users' });
    const undo = await rollBack(world, id);
    const message = parseRotationMessage(world.rotations.take());
    const engines = Array.from({ length: 10 }, () => world.start().services);
    await Promise.all(engines.map((services) => handleRotation(services, message)));
    await world.converge();
    expect(await handleRotation(world.start().services, message)).toEqual({
      kind: 'ended',
      state: 'DONE',
    });
    expect((await find(world, undo)).state).toBe('DONE');
    expect(await Array.fromAsync(main(world).listVersions('orders-db'))).toHaveLength(3);
  });

  it('is begun by the sweep when its message is lost', async () => {
    const { world, id, first } = await rotated();
    await rollBack(world, id);
    while (world.rotations.take());
    await world.converge();
    expect((await world.latest()).value.expose()).toBe(first.value.expose());
  });

  it('keeps to the value it goes back to when it is interrupted in the gap', async () => {
    const { world, id, first } = await rotated();
    const undo = await rollBack(world, id);
    const down = once('before', 'main.set', () => world.vaults.setReadOnly('main', true));
    await world.drain(world.start(null, down));
    expect(await find(world, undo)).toMatchObject({ state: 'PROMOTING' });
    world.vaults.setReadOnly('main', false);
    await world.converge();
    expect((await find(world, undo)).state).toBe('DONE');
    expect((await world.latest()).value.expose()).toBe(first.value.expose());
  });

  it('writes the stored text as it stands, whatever the template says now', async () => {
    const value = { shape: 'json', template: { password: '{{password}}', host: 'new' } };
    const world = createWorld({ policy: { value } });
    await world.seed();
    const text = '{"password":"first-password","host":"old","port":1}';
    const { version } = await main(world).set('orders-db', { value: new SecretString(text) });
    const password = '{"password":"first-password","host":"new"}';
    await main(world).set('orders-db', { value: new SecretString(password) });
    const id = await rotate(world);
    // A rotation would lose the member that the template lacks; a rollback carries nothing over.
    const now = world.server.logins.get('app');
    const theirs = new SecretString(`{"password":"${now}","host":"new","port":2}`);
    await main(world).set('orders-db', { value: theirs });
    await rollBack(world, id, version);
    await world.converge();
    expect((await world.latest()).value.expose()).toBe(text);
    expect(world.server.logins.get('app')).toBe('first-password');
  });

  it('can be rolled back, and what follows it carries no tag of it', async () => {
    const { world, id } = await rotated({ overlap: 'users' });
    const second = await world.latest();
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    await rollBack(world, undo);
    await world.converge();
    expect((await world.latest()).value.expose()).toBe(second.value.expose());
    expect((await world.latest()).properties.tags).toMatchObject({ rollbackOf: undo });
    await rotate(world);
    await world.converge();
    expect((await world.latest()).properties.tags).not.toHaveProperty('rollbackOf');
    await expectNothingLeft(world);
  });

  it.each(['none', 'users'] as const)(
    'to a version whose login was retired sets it again, overlap %s',
    async (overlap) => {
      const { world, id, first } = await rotated({ overlap });
      await world.converge();
      if (overlap === 'users') expect(world.server.logins.get('app_a')).toBe('retired');
      const undo = await rollBack(world, id);
      await world.converge();
      expect(await find(world, undo)).toMatchObject({ state: 'DONE', replaces: null });
      expect((await world.latest()).value.expose()).toBe(first.value.expose());
      expect(await world.latestLogsIn()).toBe(true);
      if (overlap === 'users') expect(world.server.logins.get('app_b')).toBe('retired');
      await expectNothingLeft(world);
    },
  );
});

describe('a rollback that starts nothing', () => {
  async function expectSkipped(world: World, id: string, reason: string, cure: string) {
    const { state, outcome } = await find(world, id);
    expect({ state, code: outcome?.code }).toEqual({ state: 'SKIPPED', code: reason });
    expect(outcome?.message).toContain(cure);
  }

  it('is one to a version that does not exist', async () => {
    const { world, id } = await rotated();
    const undo = await rollBack(world, id, 'f'.repeat(32));
    await world.drain(world.start());
    await expectSkipped(world, undo, 'version_missing', 'name one that the vault lists');
  });

  it('is one to a version that is disabled', async () => {
    const { world, id, first } = await rotated();
    const { version } = first.properties;
    world.vaults.change('main', 'orders-db', { version, enabled: false });
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'version_disabled', 'enable it, then ask again');
  });

  it('is one to the latest version', async () => {
    const { world, id } = await rotated();
    const { version } = (await world.latest()).properties;
    const undo = await rollBack(world, id, version);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'already_latest', 'name an older one');
  });

  it('is one of an object that no policy lists any more', async () => {
    const { world, id } = await rotated();
    world.documents.policies.splice(0);
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'no_policy', 'no policy');
  });

  it('is one while another rotation has the object', async () => {
    const { world, id } = await rotated();
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const dead = world.start({ call: 30, when: 'before' });
    await handleRotation(dead.services, message).catch(() => undefined);
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'in_progress', 'is under way');
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('is one of another rotation than the one in its grace period', async () => {
    const { world, id, first } = await rotated({ overlap: 'users' });
    await world.converge();
    const later = await rotate(world);
    const undo = await rollBack(world, id, first.properties.version);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'in_progress', `rotation ${later} is under way`);
    expect((await find(world, later)).state).toBe('GRACE');
  });

  it('is one in a grace period to another version than the one before', async () => {
    const { world, id } = await rotated({ overlap: 'users' });
    await world.converge();
    await rollBack(world, id);
    await world.converge();
    const later = await rotate(world);
    const [older] = (await world.journals()).filter((journal) => journal.id === id);
    const undo = await rollBack(world, later, older!.promotedVersion);
    await world.drain(world.start());
    await expectSkipped(world, undo, 'in_progress', 'order retire-now first, or wait');
    expect((await find(world, later)).state).toBe('GRACE');
  });

  it('is refused at once when there is nothing to go back to', async () => {
    const world = createWorld();
    await world.seed();
    const skipped = await world.request(world.start(), 'near-expiry', 'another');
    await world.drain(world.start());
    expect((await find(world, skipped)).state).toBe('SKIPPED');
    await expect(rollBack(world, skipped)).rejects.toMatchObject({ code: 'conflict' });
    const unknown = rollBack(world, '01JZZZZZZZZZZZZZZZZZZZZZZZ');
    await expect(unknown).rejects.toMatchObject({ code: 'not_found' });
    expect(world.rotations.take()).toBeNull();
  });

  it('is not what a plain rotation does in a grace period', async () => {
    const { world, id } = await rotated({ overlap: 'users' });
    const plain = await rotate(world);
    await expectSkipped(world, plain, 'in_progress', `rotation ${id} is under way`);
    expect((await find(world, id)).state).toBe('GRACE');
  });
});

describe('a rollback that cannot be done', () => {
  async function expectAsBefore(world: World, undo: string, code: string) {
    const { state, outcome } = await find(world, undo);
    expect({ state, code: outcome?.code }).toEqual({ state: 'FAILED_CLEAN', code });
    expect(await world.latestLogsIn()).toBe(true);
    await expectNothingLeft(world);
    return outcome?.message;
  }

  it('names the login the version should hold', async () => {
    const { world, id } = await rotated({ overlap: 'users' });
    await world.converge();
    const { promotedVersion } = await find(world, id);
    await rollBack(world, id);
    await world.converge();
    await rotate(world);
    await world.converge();
    const before = await record(world);
    // app_b is in force, so app_a is the one to set; this version holds app_b.
    const undo = await rollBack(world, id, promotedVersion);
    await world.converge();
    const message = await expectAsBefore(world, undo, 'other_login');
    expect(message).toContain(
      `version ${promotedVersion} holds app_b, but the login to set is app_a`,
    );
    expect(await record(world)).toMatchObject({ failures: before?.['failures'] });
  });

  it('tells that the version cannot be read as the policy shapes it', async () => {
    const { world, id, first } = await rotated({ overlap: 'users' });
    await world.converge();
    const { version } = await main(world).set('orders-db', { value: new SecretString('plain') });
    await main(world).set('orders-db', {
      value: (await main(world).get('orders-db', (await find(world, id)).promotedVersion!)).value,
    });
    expect(first.properties.version).not.toBe(version);
    const undo = await rollBack(world, id, version);
    await world.converge();
    const message = await expectAsBefore(world, undo, 'invalid_input');
    expect(message).toContain(`version ${version} cannot be gone back to`);
    expect(message).not.toContain('plain');
  });

  it('names the login too when the target has that one only', async () => {
    const value = {
      shape: 'json',
      template: { user: '{{username}}', password: '{{password}}' },
    };
    const world = createWorld({ policy: { value } });
    await world.seed();
    const text = (user: string) =>
      new SecretString(`{"user":"${user}","password":"first-password"}`);
    const { version } = await main(world).set('orders-db', { value: text('renamed') });
    await main(world).set('orders-db', { value: text('app') });
    const id = await rotate(world);
    const undo = await rollBack(world, id, version);
    await world.converge();
    const { state, outcome } = await find(world, undo);
    expect([state, outcome?.code]).toEqual(['FAILED_CLEAN', 'other_login']);
  });

  it('needs room for one tag more than a rotation', async () => {
    const world = createWorld();
    await world.seed();
    const tags = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`tag${i}`, 'x']));
    const value = new SecretString('first-password');
    await main(world).set('orders-db', { value, tags });
    const id = await rotate(world);
    expect((await find(world, id)).state).toBe('DONE');
    expect(Object.keys((await world.latest()).properties.tags)).toHaveLength(15);
    const undo = await rollBack(world, id);
    await world.converge();
    const message = await expectAsBefore(world, undo, 'invalid_input');
    expect(message).toContain('4 of 15');
  });

  it.each(['none', 'users'] as const)('leaves what is in force, overlap %s', async (overlap) => {
    const { world, id } = await rotated({ overlap });
    await world.converge();
    const second = await world.latest();
    const undo = await rollBack(world, id);
    const down = once('after', 'target.apply', () => world.vaults.setReadOnly('main', true));
    await world.drain(world.start(null, down));
    await world.converge();
    expect(await find(world, undo)).toMatchObject({
      state: 'ROLLED_BACK',
      outcome: { code: 'vault_read_only' },
    });
    expect((await world.latest()).properties.version).toBe(second.properties.version);
    expect(await world.latestLogsIn()).toBe(true);
    // After the grace period of the rotation nobody uses the older login any more.
    if (overlap === 'users') expect(world.server.logins.get('app_a')).toBe('retired');
    await expectNothingLeft(world);
  });
});

describe('a rollback in the grace period', () => {
  const inGrace = () => rotated({ overlap: 'users' });

  it('ends the rotation, which has retired nothing, and retires the newer login', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    expect(world.server.logins.get('app_a')).toBe('first-password');
    expect(await find(world, id)).toMatchObject({
      state: 'ROLLED_BACK',
      replacedBy: undo,
      heldFrom: null,
      outcome: { code: 'rolled_back', message: expect.stringContaining('app_a was not retired') },
    });
    expect(await find(world, undo)).toMatchObject({
      state: 'GRACE',
      replaces: id,
      login: 'app_a',
      previousLogin: 'app_b',
    });
    expect(await record(world)).toMatchObject({ active: undo, failures: 0 });
    await world.converge();
    expect(world.server.logins.get('app_a')).toBe('first-password');
    expect(world.server.logins.get('app_b')).toBe('retired');
    expect((await find(world, undo)).state).toBe('DONE');
    expect((await find(world, id)).unaudited).toEqual([]);
    await expectNothingLeft(world);
  });

  it('starts from what that rotation proved, not from what was proven before it', async () => {
    const { world } = await inGrace();
    await world.converge();
    const base = await world.latest();
    const id = await rotate(world);
    const undo = await rollBack(world, id);
    await world.converge();
    expect(await find(world, undo)).toMatchObject({ state: 'DONE', login: 'app_b' });
    expect((await world.latest()).value.equals(base.value)).toBe(true);
    expect(world.server.logins.get('app_a')).toBe('retired');
    await expectNothingLeft(world);
  });

  it('keeps the logins reserved when the worker it overtook wakes up', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const id = await world.request(world.start());
    const reached = Promise.withResolvers<void>();
    const thawed = Promise.withResolvers<void>();
    const zombie = world.start(null, {
      before: async (_call, what) => {
        if (what !== 'store.transact' || (await find(world, id)).state !== 'GRACE') return;
        reached.resolve();
        await thawed.promise;
      },
    });
    const work = world.drain(zombie);
    await reached.promise;
    world.pass(61);
    const undo = await rollBack(world, id);
    const wake = once('before', 'store.put', async () => {
      thawed.resolve();
      await work;
      // Still under the name of the rotation that has ended, whose claim is its successor's now.
      const { documents } = await world.store.list('reservations');
      expect(documents.map(({ body }) => body['rotationId'])).toEqual([id]);
    });
    await world.drain(world.start(null, wake));
    expect(await find(world, undo)).toMatchObject({ state: 'GRACE', replaces: id });
    await world.converge();
    await expectNothingLeft(world);
  });

  it('waits while the worker of the rotation still has the lease', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const id = await world.request(world.start());
    let undo: string | null = null;
    const order: Watch = {
      before: async (_call, what) => {
        if (undo !== null || what !== 'store.transact') return;
        if ((await find(world, id)).state !== 'GRACE') return;
        undo = await rollBack(world, id);
        await world.drain(world.start());
        expect((await find(world, undo)).state).toBe('REQUESTED');
      },
    };
    const message = parseRotationMessage(world.rotations.take());
    await handleRotation(world.start(null, order).services, message);
    expect((await find(world, id)).state).toBe('GRACE');
    await world.converge();
    expect((await find(world, undo!)).state).toBe('DONE');
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('comes too late once the old login is being retired', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    const retiring = once('before', 'store.transact', async () => {
      world.pass(86_400);
      const { object, correlationId } = await find(world, id);
      const base = { requestId: id, ...object, correlationId, requestedBy: 'engine' };
      const resume = { kind: 'resume', ...base, reopen: false } as const;
      await handleRotation(world.start().services, resume);
    });
    await world.drain(world.start(null, retiring));
    await world.converge();
    expect((await find(world, id)).state).toBe('DONE');
    // By then the object is free again, and what was retired is set once more.
    expect((await find(world, undo)).state).toBe('DONE');
    expect(await world.latestLogsIn()).toBe(true);
    await expectNothingLeft(world);
  });

  /** Ends a rollback without a result; then the rotation is where it was, and both logins work. */
  async function expectGivenBack(world: World, id: string, undo: string, state: string) {
    expect((await find(world, undo)).state).toBe(state);
    expect(await find(world, id)).toMatchObject({
      state: 'GRACE',
      replacedBy: null,
      outcome: null,
    });
    expect(await record(world)).toMatchObject({ active: id });
    expect(world.server.logins.get('app_a')).toBe('first-password');
    expect(await world.latestLogsIn()).toBe(true);
    await world.converge();
    expect((await find(world, id)).state).toBe('DONE');
    expect(world.server.logins.get('app_a')).toBe('retired');
    expect(await world.latestLogsIn()).toBe(true);
    await expectNothingLeft(world);
  }

  it('gives the place back when the target refuses it', async () => {
    const { world, id } = await inGrace();
    world.server.fault = (verb) => void (verb === 'preflight' && refused());
    const undo = await rollBack(world, id);
    await world.drain(world.start());
    world.server.fault = null;
    const { outcome } = await find(world, undo);
    expect(outcome?.message).toContain(`rotation ${id} is in its grace period again`);
    await expectGivenBack(world, id, undo, 'FAILED_CLEAN');
  });

  it('gives the place back when it was cancelled, and retires nothing early', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    world.server.faultAfter = (verb) => void (verb === 'apply' && unreachable());
    await world.drain(world.start());
    world.server.faultAfter = null;
    expect((await find(world, undo)).state).toBe('APPLYING');
    await cancelRotation(world.start().services, undo, 'ada');
    await world.drain(world.start());
    await expectGivenBack(world, id, undo, 'ROLLED_BACK');
  });

  it('gives the place back when the version is disabled meanwhile', async () => {
    const { world, id, first } = await inGrace();
    const { version } = first.properties;
    const undo = await rollBack(world, id);
    const disable = () => world.vaults.change('main', 'orders-db', { version, enabled: false });
    await world.drain(world.start(null, once('after', 'store.transact', disable)));
    await expectGivenBack(world, id, undo, 'FAILED_CLEAN');
  });

  it('gives the place back after it was held and resumed', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    world.server.faultAfter = (verb) => {
      if (verb === 'apply') world.server.fault = unreachable;
    };
    await world.drain(world.start());
    for (let round = 0; (await find(world, undo)).state !== 'QUARANTINED'; round++) {
      expect(round).toBeLessThan(40);
      world.pass(301);
      await sweep(world.start().services);
      await world.drain(world.start());
    }
    expect(await world.activeRows()).toEqual([]);
    expect(await find(world, undo)).toMatchObject({
      state: 'QUARANTINED',
      heldFrom: 'ROLLING_BACK',
    });
    expect((await world.store.list('reservations')).documents).toHaveLength(1);
    world.server.fault = null;
    world.server.faultAfter = null;
    await resumeRotation(world.start().services, undo, 'ada');
    await world.drain(world.start());
    await expectGivenBack(world, id, undo, 'ROLLED_BACK');
  });

  it('frees object and target when it was held and is released', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    await world.drain(
      world.start(
        null,
        once('after', 'main.set', () =>
          world.vaults.change('main', 'orders-db', { enabled: false }),
        ),
      ),
    );
    await world.converge();
    expect((await find(world, undo)).state).toBe('QUARANTINED');
    world.vaults.change('main', 'orders-db', { enabled: true });
    await releaseRotation(world.start().services, undo, 'ada');
    await world.drain(world.start());
    const next = await rotate(world);
    await world.converge();
    expect((await find(world, next)).state).toBe('DONE');
    expect(await world.latestLogsIn()).toBe(true);
    await expectNothingLeft(world);
  });

  it('can be tried again after the place was given back', async () => {
    const { world, id } = await inGrace();
    world.server.fault = (verb) => void (verb === 'preflight' && refused());
    for (let round = 0; round < 3; round++) {
      const failed = await rollBack(world, id);
      await world.drain(world.start());
      expect((await find(world, failed)).state).toBe('FAILED_CLEAN');
    }
    world.server.fault = null;
    const undo = await rollBack(world, id);
    await world.converge();
    expect((await find(world, undo)).state).toBe('DONE');
    expect(await find(world, id)).toMatchObject({ state: 'ROLLED_BACK', replacedBy: undo });
    expect(world.server.logins.get('app_b')).toBe('retired');
    await expectNothingLeft(world);
  });

  it('is mended when its write comes after it was given up', async () => {
    const { world, id } = await inGrace();
    const undo = await rollBack(world, id);
    const reached = Promise.withResolvers<void>();
    const landed = Promise.withResolvers<void>();
    world.vaults.onCall(async ({ vault, operation }, run) => {
      if (vault !== 'main' || operation !== 'set') return run();
      reached.resolve();
      await landed.promise;
      await run();
      throw new AppError('vault_unavailable', { detail: 'the answer was lost long ago' });
    });
    const zombie = world.drain(world.start()).catch(() => undefined);
    await reached.promise;
    world.vaults.onCall(null);
    world.pass(61);
    await cancelRotation(world.start().services, undo, 'ada');
    await world.drain(world.start());
    expect((await find(world, id)).state).toBe('GRACE');
    landed.resolve();
    await zombie;
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    expect((await world.journals()).every(({ heldFrom }) => heldFrom !== 'ROLLING_BACK')).toBe(
      true,
    );
    await expectNothingLeft(world);
  });
});

describe('the audit log of a rollback', () => {
  it.each<Overlap>(['none', 'users'])('names what it goes back to, overlap %s', async (overlap) => {
    const { world, id, first } = await rotated({ overlap });
    const undo = await rollBack(world, id);
    await world.converge();
    const entries: Record<string, unknown>[] = [];
    for await (const name of world.log.list('audit/')) {
      const lines = Buffer.from(await world.log.read(name))
        .toString()
        .trim()
        .split('\n');
      entries.push(...lines.map((line) => JSON.parse(line)));
    }
    const own = entries.filter((entry) => entry['rotationId'] === undo);
    expect(own.length).toBeGreaterThan(10);
    for (const { detail } of own) {
      expect(detail).toMatchObject({ rollbackOf: id, toVersion: first.properties.version });
    }
    const staged = own.filter(({ detail }) => Object(detail)['state'] === 'PREFLIGHTED');
    expect(staged.map(({ action }) => action)).toEqual(['secret.read', 'candidate.stage']);
    expect(JSON.stringify(entries)).not.toContain('first-password');
  });
});
