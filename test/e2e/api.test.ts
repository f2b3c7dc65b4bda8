import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Answer,
  eventually,
  fromNow,
  type Ground,
  newPassword,
  policyFor,
  type RunningApp,
  seedAdmin,
  seedAlternating,
  startGround,
  targetFor,
} from '../support/e2e-world.ts';

let ground: Ground;
let app: RunningApp;

beforeAll(async () => {
  ground = await startGround();
  await seedAdmin(ground);
  // Long: what failed once stays where it is until somebody asks for something.
  app = await ground.startApp({ overrides: { KEYTURN_RETRY_SECONDS: '30' } });
}, 120_000);

afterAll(async () => {
  await ground?.stop();
}, 60_000);

/** A secret that a policy lists, with its two logins. */
async function aRotatable(name: string, more: Readonly<Record<string, unknown>> = {}) {
  const seeded = await seedAlternating(ground, name);
  await app.document('targets', name, targetFor(ground, name, seeded.logins));
  await app.document('policies', name, policyFor(name, { grace: 'PT0S', ...more }));
  return seeded;
}

/** A secret whose target does not answer: its rotation waits at the door. */
async function aStuckOne(name: string): Promise<string> {
  const { logins } = await aRotatable(name);
  const target = targetFor(ground, name, logins);
  const settings = { ...target.settings, port: 9 };
  await app.document('targets', name, { ...target, settings });
  const id = await app.rotate(name);
  await eventually(async () => {
    const { status, json } = await app.call('GET', `/rotations/${id}`);
    return status === 200 && json.resumeAt !== null;
  }, app.output);
  return id;
}

function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.status, answer.text).toBe(status);
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.json).toMatchObject({
    type: `urn:keyturn:problem:${code}`,
    status,
    code,
    title: expect.any(String),
    detail: expect.any(String),
    instance: expect.stringMatching(/^urn:keyturn:request:[0-9A-Z]{26}$/),
  });
}

async function versionsOf(name: string): Promise<number> {
  return (await Array.fromAsync(ground.main.listPropertiesOfSecretVersions(name))).length;
}

describe('starting a rotation', () => {
  it('answers 202 with an id under which the rotation can be read to its end', async () => {
    await aRotatable('start-db');
    const answer = await app.call('POST', '/vaults/main/secrets/start-db/rotations');
    expect(answer.status).toBe(202);
    expect(answer.json).toEqual({ id: expect.stringMatching(/^[0-9A-HJKMNP-TV-Z]{26}$/) });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const done = await app.ended(answer.json.id);
    expect(done).toMatchObject({
      id: answer.json.id,
      object: { vault: 'main', type: 'secret', name: 'start-db' },
      state: 'DONE',
      ended: true,
      reason: 'on-demand',
      policy: 'start-db',
      login: 'start_db_b',
      outcome: null,
    });
    expect(done.history[0].state).toBe('REQUESTED');
    expect(done.history.at(-1).state).toBe('DONE');
  });

  it('carries the caller’s trace id from the answer to the audit log', async () => {
    await ground.main.setSecret('traced', newPassword());
    const trace = '0af7651916cd43dd8448eb211c80319c';
    const answer = await app.call('POST', '/vaults/main/secrets/traced/rotations', {
      headers: { traceparent: `00-${trace}-b7ad6b7169203331-01` },
    });
    expect(answer.headers.get('x-correlation-id')).toBe(trace);
    await app.ended(answer.json.id);
    const records = await app.audit({ correlationId: trace });
    expect(records.map(({ action, outcome }) => [action, outcome])).toEqual(
      expect.arrayContaining([
        ['api.start-rotation', 'intended'],
        ['api.start-rotation', 'done'],
        ['rotation.transition', 'done'],
      ]),
    );
  });

  it('ends as skipped, with the reason, when there is nothing to rotate', async () => {
    const skipped = await app.ended(await app.rotate('not-there'));
    expect(skipped).toMatchObject({ state: 'SKIPPED', outcome: { code: 'object_missing' } });
  });

  it('knows no vault but the main ones', async () => {
    for (const vault of ['other', 'pending']) {
      const answer = await app.call('POST', `/vaults/${vault}/secrets/orders-db/rotations`);
      expectProblem(answer, 404, 'not_found');
    }
  });
});

describe('a plan', () => {
  it('says what would be done and changes nothing', async () => {
    const { logins, password } = await aRotatable('plan-db');
    await ground.forgetVaultCalls();
    const requested = app.log('rotation.requested').length;
    const before = ground.stack.postgres.logText().length;
    const answer = await app.call('POST', '/vaults/main/secrets/plan-db/rotation-plan');
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json).toMatchObject({
      decision: 'start',
      reason: null,
      policy: 'plan-db',
      target: 'plan-db',
      handler: 'postgresql',
      overlap: 'users',
      login: logins[1],
      graceSeconds: 0,
    });
    expect(answer.json.steps.length).toBeGreaterThan(3);
    const operations = (await ground.vaultCalls()).map(({ operation }) => operation);
    expect(operations.length).toBeGreaterThan(0);
    expect(operations.filter((operation) => !operation?.startsWith('get'))).toEqual([]);
    expect(ground.stack.postgres.logText().slice(before)).not.toMatch(/ALTER|CREATE|DROP/);
    expect(app.log('rotation.requested')).toHaveLength(requested);
    expect(await app.rotations('plan-db')).toEqual([]);
    expect(await versionsOf('plan-db')).toBe(1);
    expect(await ground.canLogIn(logins[0], password)).toBe(true);
  });

  it('says why nothing would be done', async () => {
    await ground.main.setSecret('plan-nothing', newPassword());
    const answer = await app.call('POST', '/vaults/main/secrets/plan-nothing/rotation-plan');
    expect(answer.json).toMatchObject({ decision: 'skip', reason: 'no_policy', steps: [] });
  });

  it('tells of a stored credential that opens nothing, before anything is touched', async () => {
    await aRotatable('plan-wrong-db');
    const value = JSON.stringify({ username: 'plan_wrong_db_a', password: newPassword() });
    await ground.main.setSecret('plan-wrong-db', value, { expiresOn: fromNow(3600) });
    const answer = await app.call('POST', '/vaults/main/secrets/plan-wrong-db/rotation-plan');
    expect(answer.json).toMatchObject({ decision: 'skip', reason: 'target_refused' });
    expect(answer.json.message).toMatch(/stored credential/);
  });
});

describe('the list of rotations', () => {
  it('gives all of them, newest first, page by page', async () => {
    const names = ['list-1', 'list-2', 'list-3'];
    const ids: string[] = [];
    for (const name of names) {
      await ground.main.setSecret(name, newPassword());
      const id = await app.rotate(name);
      await app.ended(id);
      ids.unshift(id);
    }
    const seen: string[] = [];
    let before: string | null = null;
    do {
      const cursor: string = before === null ? '' : `&before=${before}`;
      const { status, json } = await app.call('GET', `/rotations?limit=2${cursor}`);
      expect(status).toBe(200);
      expect(json.rotations.length).toBeLessThanOrEqual(2);
      seen.push(...json.rotations.map((one: { id: string }) => one.id));
      before = json.before;
    } while (before !== null);
    expect(seen.slice(0, 3)).toEqual(ids);
    expect(seen).toEqual([...new Set(seen)].sort().reverse());
    const whole = await app.call('GET', '/rotations?limit=100');
    expect(whole.json.rotations.map((one: { id: string }) => one.id)).toEqual(seen);
  });

  it('gives those of one object', async () => {
    await ground.main.setSecret('list-own', newPassword());
    const ids = [await app.rotate('list-own')];
    await app.ended(ids[0] ?? '');
    ids.unshift(await app.rotate('list-own'));
    await app.ended(ids[0] ?? '');
    const { json } = await app.call('GET', '/rotations?vault=main&name=LIST-own');
    expect(json.rotations.map((one: { id: string }) => one.id)).toEqual(ids);
    expect(json.before).toBeNull();
  });

  it('refuses an id that no rotation has', async () => {
    const answer = await app.call('GET', '/rotations/01ARZ3NDEKTSV4RRFFQ69G5FAV');
    expectProblem(answer, 404, 'not_found');
  });
});

describe('cancelling', () => {
  it('stops a rotation that has promoted nothing', async () => {
    const id = await aStuckOne('cancel-db');
    const answer = await app.call('POST', `/rotations/${id}/cancel`);
    expect(answer.status, answer.text).toBe(202);
    const ended = await app.ended(id);
    expect(ended.state).toBe('FAILED_CLEAN');
    expect(ended.outcome.message).toMatch(/cancel/);
    expect(await versionsOf('cancel-db')).toBe(1);
  });

  it('is refused once the new version may be in use', async () => {
    await aRotatable('too-late-db');
    const { id } = await app.ended(await app.rotate('too-late-db'));
    expectProblem(await app.call('POST', `/rotations/${id}/cancel`), 409, 'not_cancellable');
    expect(await app.rotation(id)).toMatchObject({ state: 'DONE' });
  });
});

describe('resuming', () => {
  it('is refused for what is not held', async () => {
    const id = await app.rotate('nothing-held');
    await app.ended(id);
    expectProblem(await app.call('POST', `/rotations/${id}/resume`), 409, 'conflict');
  });

  it('lets a held rotation go on once its cause is mended', async () => {
    const { logins, password } = await aRotatable('held-db', { grace: 'PT4S' });
    const id = await app.rotate('held-db');
    await eventually(async () => {
      const { json } = await app.call('GET', `/rotations/${id}`);
      return json.state === 'GRACE';
    }, app.output);
    // Somebody goes back to the old login by hand, within the grace.
    const mine = await ground.main.getSecret('held-db');
    await ground.main.setSecret('held-db', JSON.stringify({ username: logins[0], password }));
    const held = await app.ended(id);
    expect(held.state).toBe('REVOKE_FAILED');
    expect(held.outcome.message).toContain(logins[0]);
    expect(await ground.canLogIn(logins[0], password)).toBe(true);

    await ground.main.setSecret('held-db', mine.value ?? '');
    const answer = await app.call('POST', `/rotations/${id}/resume`);
    expect(answer.status, answer.text).toBe(202);
    await app.newest('held-db', 'DONE');
    expect(await ground.canLogIn(logins[0], password)).toBe(false);
  }, 60_000);
});

describe('going back within the grace period', () => {
  it('puts the version before in force again, and retires the newer login when told to', async () => {
    const { logins, password } = await aRotatable('undo-db', { grace: 'PT4M' });
    const inGrace = (id: string) =>
      eventually(async () => (await app.rotation(id)).state === 'GRACE', app.output);
    const id = await app.rotate('undo-db');
    expect((await app.rotation(id)).id).toBe(id);
    await inGrace(id);
    const newer = JSON.parse((await ground.main.getSecret('undo-db')).value ?? '');
    expect(newer.username).toBe(logins[1]);

    const answer = await app.call('POST', `/rotations/${id}/rollback`);
    expect(answer.status, answer.text).toBe(202);
    const undo = answer.json.id;
    await inGrace(undo);
    const latest = await ground.main.getSecret('undo-db');
    expect(JSON.parse(latest.value ?? '')).toMatchObject({ username: logins[0], password });
    expect(latest.properties.tags).toMatchObject({ rotationId: undo, rollbackOf: id });
    expect(await app.rotation(id)).toMatchObject({
      state: 'ROLLED_BACK',
      outcome: { code: 'rolled_back' },
    });
    expect(await ground.canLogIn(logins[0], password)).toBe(true);
    expect(await ground.canLogIn(logins[1], newer.password)).toBe(true);

    expectProblem(await app.call('POST', `/rotations/${id}/retire-now`), 409, 'conflict');
    const order = await app.call('POST', `/rotations/${undo}/retire-now`);
    expect(order.status, order.text).toBe(202);
    expect(await app.ended(undo)).toMatchObject({ state: 'DONE', rollbackOf: id });
    expect(await ground.canLogIn(logins[0], password)).toBe(true);
    expect(await ground.canLogIn(logins[1], newer.password)).toBe(false);
  }, 60_000);
});

describe('health', () => {
  it('is told to anyone, and details to who may read them', async () => {
    const plain = await app.call('GET', '/health', { token: null });
    expect(plain.status).toBe(200);
    expect(plain.json).toEqual({ status: 'ok', version: expect.any(String) });
    const token = await ground.token('Keyturn.Health.Read');
    const details = await app.call('GET', '/health/details', { token });
    expect(details.status, details.text).toBe(200);
    expect(details.json).toMatchObject({
      status: 'ok',
      checks: { storage: { status: 'ok' }, documents: { status: 'ok' } },
    });
  });
});

describe('a request that is not valid', () => {
  const id = '01ARZ3NDEKTSV4RRFFQ69G5FAV';

  it.each([
    ['POST', '/vaults/main/secrets/under_score/rotations', ['path.name']],
    ['POST', `/vaults/main/secrets/${'n'.repeat(128)}/rotations`, ['path.name']],
    ['POST', '/vaults/Main%20Vault/secrets/a.b/rotations', ['path.vault', 'path.name']],
    ['POST', '/vaults/main/secrets/x/rotations?dryRun=true', ['query.dryRun']],
    ['POST', '/vaults/main/secrets/a_b/rotation-plan?x=1', ['path.name', 'query.x']],
    ['GET', '/rotations/lower-case', ['path.id']],
    ['POST', '/rotations/0/cancel', ['path.id']],
    ['POST', `/rotations/${id}/resume?force=1`, ['query.force']],
    ['GET', '/rotations?limit=0', ['query.limit']],
    ['GET', '/rotations?limit=many&before=x', ['query.limit', 'query.before']],
    ['GET', '/rotations?limit=1&limit=2', ['query.limit']],
    ['GET', '/rotations?vault=main', ['query.name']],
    ['GET', '/rotations?name=x', ['query.vault']],
  ])('is told every field at fault: %s %s', async (method, path, fields) => {
    const answer = await app.call(method, path);
    expectProblem(answer, 400, 'invalid_input');
    const faults: { field: string; message: string }[] = answer.json.faults;
    expect(faults.map(({ field }) => field)).toEqual(fields);
    for (const { message } of faults) expect(message).toMatch(/\w+ \w+/);
  });

  it.each(['{}', '{"dryRun":true}', '{"not json', '"text"'])(
    'is refused with a body that nothing asks for: %s',
    async (body) => {
      const answer = await app.call('POST', '/vaults/main/secrets/start-db/rotations', { body });
      expectProblem(answer, 400, 'invalid_input');
      expect(answer.json.faults).toEqual([{ field: 'body', message: expect.any(String) }]);
    },
  );

  it.each([
    ['GET', '/vaults/main/secrets/start-db/rotations'],
    ['DELETE', `/rotations/${id}`],
    ['PUT', `/rotations/${id}/cancel`],
    ['POST', '/health'],
    ['GET', '/vaults/main/secrets/start-db'],
    ['GET', '/nothing'],
  ])('does not exist with another method or path: %s %s', async (method, path) => {
    expect((await app.call(method, path)).status).toBe(404);
  });
});
