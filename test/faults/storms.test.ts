import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../local/loopback-http.ts';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { type Lane, openLane, type Subject, versionOf } from '../support/fault-lane.ts';
import { strategies } from '../support/kill-points.ts';

const startedAt = Date.now();
let ground: Ground;
let lane: Lane;
beforeAll(async () => {
  ground = await startGround();
  lane = await openLane(ground, { name: 'storm', sweepSchedule: '* * * * * *' });
  const port = await freePort();
  const second = await lane.startProcess(port, lane.settings(), () => undefined);
  ground.stops.push(async () => void second.child.kill('SIGKILL'));
  await lane.subscribe(second.url, 'CloudEventSchemaV1_0', 'near-cloud');
});
afterAll(async () => {
  await ground?.stop();
  console.log(`  storms: ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
});

describe('fifty copies of one event, in both schemas, over two host processes', () => {
  it.each(strategies)('give one rotation, overlap %s', async (strategy) => {
    const subject = await lane.prepare(strategy);
    lane.eventGrid.setFaults({ copies: 25, shuffleMs: 300 });
    await lane.announce(subject);
    await pause(500);
    lane.eventGrid.setFaults({});
    await lane.settle(subject, { nudges: false });
    expect(await lane.faultsAfterRotation(subject)).toEqual([]);
    const journals = await lane.journals(subject);
    expect(journals).toHaveLength(50);
    const skipped = journals.filter(({ state }) => state === 'SKIPPED');
    expect(skipped).toHaveLength(49);
    const reasons = new Set(skipped.map(({ outcome }) => outcome?.code));
    expect(['in_progress', 'superseded']).toEqual(expect.arrayContaining([...reasons]));
    const done = journals.find(({ state }) => state === 'DONE');
    expect(new Set(lane.told.map(({ id }) => id))).toContain(`${done?.id}.shop`);
    console.log(`  ${strategy}: 50 copies, 1 rotation, 49 skipped as ${[...reasons].join(' or ')}`);
  });
});

interface SentEvent {
  readonly id: string;
  readonly topic: string;
  readonly subject: string;
  readonly eventType: string;
  readonly eventTime: string;
  readonly data: Readonly<Record<string, unknown>>;
}

const schemas = {
  'Event Grid schema': (event: SentEvent): unknown => [event],
  CloudEvents: ({ topic, eventType, eventTime, ...rest }: SentEvent): unknown => ({
    ...{ id: rest.id, source: topic, subject: rest.subject, type: eventType, time: eventTime },
    ...{ specversion: '1.0', data: rest.data },
  }),
};

describe.each(Object.entries(schemas))('an event in %s that is not to be acted on', (_, toBody) => {
  it('is skipped when a newer version exists', async () => {
    const subject = await lane.prepare('users');
    const event = await eventOf(subject);
    const { body } = await lane.vault('main', 'GET', `/secrets/${subject.name}/`);
    await lane.vault('main', 'PUT', `/secrets/${subject.name}`, { value: body.value });
    await expectSkip(subject, { event, toBody, reason: 'superseded' });
  });

  it('is skipped when the secret is disabled', async () => {
    const subject = await lane.prepare('none');
    const event = await eventOf(subject);
    const attributes = { attributes: { enabled: false } };
    await lane.vault('main', 'PATCH', `/secrets/${subject.name}/${subject.version}`, attributes);
    await expectSkip(subject, { event, toBody, reason: 'object_disabled' });
  });

  it('is skipped when no policy lists the secret', async () => {
    const name = `unlisted-${toBody.length}-${Date.now()}`;
    const { body } = await lane.vault('main', 'PUT', `/secrets/${name}`, { value: 'x' });
    const event = await eventOf({ name, version: versionOf(body) });
    await expectSkip({ name }, { event, toBody, reason: 'no_policy' });
  });

  it('is skipped when it is of a vault that is not ours', async () => {
    const subject = await lane.prepare('none');
    const event = await eventOf(subject);
    const url = `https://foreign-${Date.now()}.vault.azure.net`;
    const Id = `${url}/secrets/${subject.name}/${subject.version}`;
    await post(toBody({ ...event, data: { ...event.data, Id } }));
    const records = await lane.audit({ action: 'event.skipped' });
    expect(records.map(({ detail }) => detail?.['vaultUrl'])).toContain(url);
    expect(await lane.countVersions(subject)).toBe(1);
    expect(await lane.journals(subject)).toEqual([]);
  });

  it('is refused for good when nobody can read it', async () => {
    const before = (await lane.audit({ action: 'event.refused' })).length;
    const subject = await lane.prepare('none');
    const event = await eventOf(subject);
    await post(toBody({ ...event, data: { Id: 'nonsense' } }));
    expect(await lane.audit({ action: 'event.refused' })).toHaveLength(before + 1);
  });
});

/** The event as the vault would send it now; nothing gets it. */
async function eventOf(subject: {
  readonly name: string;
  readonly version: string;
}): Promise<SentEvent> {
  const event = {
    ...{
      id: `event-${subject.name}`,
      topic: `/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/main`,
    },
    ...{ subject: subject.name, eventType: 'Microsoft.KeyVault.SecretNearExpiry' },
    ...{ eventTime: new Date().toISOString(), dataVersion: '1', metadataVersion: '1' },
  };
  const url = lane.keyVault.vaults.find(({ name }) => name === 'main')?.url;
  const data = {
    ...{ Id: `${url}/secrets/${subject.name}/${subject.version}`, VaultName: 'main' },
    ...{ ObjectType: 'Secret', ObjectName: subject.name, Version: subject.version },
    ...{ NBF: null, EXP: 4_000_000_000 },
  };
  return { ...event, data };
}

async function post(body: unknown): Promise<void> {
  const answer = await fetch(
    `http://127.0.0.1:${lane.hostPort}/runtime/webhooks/eventgrid?functionName=secretNearExpiry`,
    {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'aeg-event-type': 'Notification' },
      body: JSON.stringify(body),
    },
  );
  expect(answer.status).toBeGreaterThanOrEqual(200);
  expect(answer.status).toBeLessThan(300);
}

async function expectSkip(
  subject: Pick<Subject, 'name'>,
  sent: {
    readonly event: SentEvent;
    readonly toBody: (event: SentEvent) => unknown;
    readonly reason: string;
  },
): Promise<void> {
  const versions = await lane.countVersions(subject);
  await post(sent.toBody(sent.event));
  await lane.settle(subject, { nudges: false });
  const journals = await lane.journals(subject);
  expect(journals.map(({ state, outcome }) => [state, outcome?.code])).toEqual([
    ['SKIPPED', sent.reason],
  ]);
  const records = await lane.audit({ rotationId: journals[0]?.id ?? '' });
  const end = records.find(({ detail }) => detail?.['to'] === 'SKIPPED');
  expect(end?.detail?.['note']).toBe(sent.reason);
  expect(await lane.countVersions(subject)).toBe(versions);
}
