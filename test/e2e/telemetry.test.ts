import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  eventually,
  fromNow,
  type Ground,
  policyFor,
  type RunningApp,
  seedAdmin,
  seedAlternating,
  startGround,
  targetFor,
  webhookTo,
} from '../support/e2e-world.ts';
import {
  type OtlpReceiver,
  type ReceivedSpan,
  startOtlpReceiver,
  startReceiver,
} from '../support/otlp-receiver.ts';

let ground: Ground;
let receiver: OtlpReceiver;

beforeAll(async () => {
  ground = await startGround();
  receiver = await startOtlpReceiver();
  await seedAdmin(ground);
  await ground.main.setSecret('webhook-orders', `whsec_${Buffer.alloc(32, 7).toString('base64')}`);
}, 120_000);

afterAll(async () => {
  await ground?.stop();
  await receiver?.stop();
}, 60_000);

/** The documents of an alternating secret, whose consumer is told. */
async function document(app: RunningApp, name: string): Promise<void> {
  const stem = name.replaceAll('-', '_');
  await app.document('targets', name, targetFor(ground, name, [`${stem}_a`, `${stem}_b`]));
  const consumers = [webhookTo(`${ground.hook.url}/${name}`)];
  await app.document('policies', name, policyFor(name, { consumers }));
}

function requestsOf(spans: readonly ReceivedSpan[]): readonly ReceivedSpan[] {
  return spans.filter(({ kind }) => kind === 'server' || kind === 'consumer');
}

/** How often the host says it ran each function. */
function executed(app: RunningApp): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [, name = ''] of app.output().matchAll(/Executed 'Functions\.([\w-]+)' \(/g)) {
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function countBy(values: readonly unknown[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[String(value)] = (counts[String(value)] ?? 0) + 1;
  return counts;
}

describe('telemetry', () => {
  it('tells each invocation once, and all that came of an event as one trace', async () => {
    const app = await ground.startApp({
      overrides: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url },
      subscribe: ['secretNearExpiry'],
    });
    await document(app, 'traced');
    await seedAlternating(ground, 'traced', fromNow(20));
    const { id } = await app.newest('traced', 'DONE');
    await eventually(() => ground.hook.told.some(({ path }) => path === '/traced'));
    await eventually(() => app.log('notification.delivered').length > 0);
    await app.stop();

    const spans = receiver.spans();
    const requests = requestsOf(spans);
    expect(countBy(requests.map(({ attributes }) => attributes['faas.name']))).toEqual(
      executed(app),
    );
    const ids = requests.map(({ attributes }) => attributes['faas.invocation_id']);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);

    const event = requests.find(({ attributes }) => attributes['faas.name'] === 'secretNearExpiry');
    const trace = spans.filter(({ traceId }) => traceId === event?.traceId);
    const names = countBy(requestsOf(trace).map(({ attributes }) => attributes['faas.name']));
    // The worker that waits for the end of the grace period is begun by a message or by the sweep.
    expect(names).toEqual({
      secretNearExpiry: 1,
      rotations: expect.toSatisfy((count: number) => count >= 2),
      notifications: expect.toSatisfy((count: number) => count >= 1),
    });
    const work = trace.filter(({ name }) => name === 'rotation.work');
    for (const { attributes } of work) {
      expect(attributes).toMatchObject({
        'keyturn.rotation.id': id,
        'keyturn.object': 'main/secret/traced',
      });
    }
    const states = work
      .flatMap(({ events }) => events)
      .filter(({ name }) => name === 'rotation.moved')
      .map(({ attributes }) => attributes['to']);
    expect(states).toEqual(expect.arrayContaining(['CLAIMED', 'STAGED', 'PROMOTED', 'DONE']));
    expect(trace.map(({ name }) => name)).toEqual(expect.arrayContaining(['vault.setSecret']));
    expect(trace.map(({ name }) => name)).toEqual(expect.arrayContaining(['notification.deliver']));
    const isRooted = ({ parentSpanId }: ReceivedSpan) =>
      trace.some(({ spanId }) => spanId === parentSpanId);
    expect(trace.filter((span) => !isRooted(span))).toEqual([event]);

    const points = receiver.points();
    const named = new Set(points.map(({ metric }) => metric));
    expect([...named]).toEqual(
      expect.arrayContaining(['keyturn.invocation.duration', 'keyturn.vault.call.duration']),
    );
    // Of names of objects there are too many for metrics.
    expect(JSON.stringify(points)).not.toContain('traced');
  }, 120_000);

  it('goes on with the trace of a caller', async () => {
    const app = await ground.startApp({
      namespace: 'caller',
      overrides: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url },
    });
    await document(app, 'called');
    await seedAlternating(ground, 'called');
    const traceId = 'c0ffee'.padEnd(32, '1');
    const headers = { traceparent: `00-${traceId}-${'ab'.repeat(8)}-00` };
    const path = '/vaults/main/secrets/called/rotations';
    const answer = await app.call('POST', path, { headers });
    expect(answer.status, answer.text).toBe(202);
    await app.ended(answer.json.id);
    await app.stop();

    const trace = receiver.spans().filter((span) => span.traceId === traceId);
    const [request, ...others] = trace.filter(({ kind }) => kind === 'server');
    expect(others).toEqual([]);
    expect(request).toMatchObject({
      name: 'POST /vaults/{vault}/secrets/{name}/rotations',
      parentSpanId: 'ab'.repeat(8),
      attributes: { 'http.response.status_code': 202 },
    });
    const worker = trace.find(({ attributes }) => attributes['faas.name'] === 'rotations');
    expect(worker?.parentSpanId).toBe(request?.spanId);
  }, 120_000);

  it('never delays or fails an invocation when its receiver hangs', async () => {
    const silent = await startOtlpReceiver();
    silent.behave('hang');
    const app = await ground.startApp({
      namespace: 'silent',
      overrides: {
        OTEL_EXPORTER_OTLP_ENDPOINT: silent.url,
        // Longer than this test may take: what has ended cannot have waited for an export to be given up.
        OTEL_EXPORTER_OTLP_TIMEOUT: '1000000',
      },
    });
    await document(app, 'unheard');
    await seedAlternating(ground, 'unheard');
    const ended = await app.ended(await app.rotate('unheard'));
    expect(ended.state).toBe('DONE');
    await eventually(() => silent.bodies().length > 0);
    await app.stop();
    const begun = app.output().match(/Executing 'Functions/g)?.length ?? 0;
    const succeeded = app.output().match(/Executed 'Functions\.[\w-]+' \(Succeeded/g)?.length;
    expect(begun).toBeGreaterThan(3);
    expect(succeeded).toBe(begun);
    expect(app.log('telemetry.not_sent')).toEqual([]);
    await silent.stop();
  }, 120_000);

  it('is part of the requests that the host tells Application Insights of', async () => {
    const ingestion = await startReceiver(
      () => ({ itemsAccepted: 1, errors: [] }),
      ground.stack.ca,
    );
    const app = await ground.startApp({
      namespace: 'insights',
      overrides: {
        APPLICATIONINSIGHTS_CONNECTION_STRING: `InstrumentationKey=${randomUUID()};IngestionEndpoint=${ingestion.url}/`,
      },
    });
    const traceId = 'decade'.padEnd(32, '2');
    const headers = { traceparent: `00-${traceId}-${'cd'.repeat(8)}-01` };
    expect((await app.call('GET', '/rotations', { headers })).status).toBe(200);
    await app.stop();
    const envelopes = ingestion.bodies().flatMap(({ text }) => JSON.parse(text));
    await ingestion.stop();

    // The log line of the request is not there: the host has it from standard output.
    const told = envelopes.filter(({ tags }) => tags['ai.operation.id'] === traceId);
    expect(told).toMatchObject([
      {
        tags: { 'ai.operation.parentId': 'cd'.repeat(8) },
        data: {
          baseType: 'RemoteDependencyData',
          baseData: { name: 'GET /rotations', type: 'InProc' },
        },
      },
    ]);
    const types = new Set(envelopes.map(({ data }) => data.baseType));
    expect(types).toContain('MetricData');
    expect(types).not.toContain('RequestData');
  }, 120_000);

  it('is part of the requests of a host that sends OpenTelemetry itself', async () => {
    const collector = await startOtlpReceiver();
    const app = await ground.startApp({
      namespace: 'otelhost',
      overrides: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        AzureFunctionsJobHost__telemetryMode: 'OpenTelemetry',
      },
    });
    const traceId = 'facade'.padEnd(32, '3');
    const headers = { traceparent: `00-${traceId}-${'ef'.repeat(8)}-01` };
    expect((await app.call('GET', '/rotations', { headers })).status).toBe(200);
    await app.stop();
    const spans = collector.spans();
    await collector.stop();
    expect(requestsOf(spans)).toEqual([]);
    expect(spans.filter((span) => span.traceId === traceId)).toMatchObject([
      { name: 'GET /rotations', kind: 'internal', parentSpanId: 'ef'.repeat(8), events: [] },
    ]);
  }, 120_000);
});
