import { type Context, context, metrics, trace } from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  AlwaysOnSampler,
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import { type Invocation, invocationObserver } from '../../src/core/invocation.ts';
import { jsonLog } from '../../src/core/log.ts';
import { parseRotationMessage, resumeMessage } from '../../src/core/rotation/message.ts';
import {
  currentTraceparent,
  inSpan,
  parseTraceparent,
  startSpan,
  tracedLog,
} from '../../src/core/telemetry.ts';
import { createVaultCaller, type VaultCall } from '../../src/core/vault/calls.ts';
import { gaugeVaults, vaultTelemetry } from '../../src/core/vault/telemetry.ts';

const spans = new InMemorySpanExporter();
let measures: InMemoryMetricExporter;
let meters: MeterProvider;

beforeEach(() => {
  spans.reset();
  measures = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  new NodeTracerProvider({
    sampler: new AlwaysOnSampler(),
    spanProcessors: [new SimpleSpanProcessor(spans)],
  }).register();
  meters = new MeterProvider({
    readers: [new PeriodicExportingMetricReader({ exporter: measures })],
  });
  metrics.setGlobalMeterProvider(meters);
});

afterEach(async () => {
  await meters.shutdown();
  for (const api of [trace, context, metrics]) api.disable();
});

function only(): ReadableSpan {
  const all = spans.getFinishedSpans();
  expect(all).toHaveLength(1);
  return all[0]!;
}

/** Every point of a metric: its attributes and its count, sum or level. */
async function points(metric: string): Promise<(readonly [object, number])[]> {
  await meters.forceFlush();
  const last = measures.getMetrics().at(-1);
  const found = last?.scopeMetrics
    .flatMap((scope) => scope.metrics)
    .find(({ descriptor }) => descriptor.name === metric);
  return (found?.dataPoints ?? []).map(({ attributes, value }) => [
    attributes,
    typeof value === 'number' ? value : value.count,
  ]);
}

const received = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`;
const hosts = `00-${'c'.repeat(32)}-${'d'.repeat(16)}-01`;

function invocation(more: Partial<Invocation> = {}): Invocation {
  return {
    functionName: 'rotations',
    id: 'i-1',
    trigger: 'queue',
    request: null,
    traceparent: undefined,
    hostTraceparent: hosts,
    ...more,
  };
}

describe('an invocation', () => {
  const requested = { trigger: 'http', request: { method: 'GET', route: 'x/{id}' } } as const;

  it.each([
    ['a message', {}, 4, 'rotations'],
    ['an event', { trigger: 'event' }, 4, 'rotations'],
    ['a timer', { trigger: 'timer' }, 1, 'rotations'],
    ['a request', requested, 1, 'GET /x/{id}'],
  ] as const)('begun by %s is one request span', async (_, more, kind, name) => {
    await invocationObserver(false)(invocation(more), async () => undefined);
    expect(only()).toMatchObject({ kind, name, attributes: { 'faas.invocation_id': 'i-1' } });
  });

  it.each([
    ['what it received', { traceparent: received }, 'ab'],
    [
      'what it received, though the host is elsewhere',
      { traceparent: received, told: true },
      'abc',
    ],
    ['its host, in the same trace', { traceparent: hosts.replace('dd', 'ee'), told: true }, 'cd'],
    ['its host, where it received nothing', { told: true }, 'cd'],
    ['its host, where it received rubbish', { traceparent: 'x', told: true }, 'cd'],
  ] as [string, { told?: boolean; traceparent?: string }, string][])(
    'goes on from %s',
    async (_, { told = false, ...given }, expected) => {
      const [traceId, spanId, link] = expected;
      await invocationObserver(told)(invocation(given), async () => undefined);
      const { parentSpanContext: parent, links } = only();
      expect(parent?.traceId).toMatch(new RegExp(`^${traceId}`));
      expect(parent?.spanId).toMatch(new RegExp(`^${spanId}`));
      expect(links.map((one) => one.context.traceId[0])).toEqual(link ? [link] : []);
    },
  );

  it('begins a trace where nobody else tells of it', async () => {
    await invocationObserver(false)(invocation(), async () => undefined);
    expect(only().parentSpanContext).toBeUndefined();
  });

  it('that throws fails as it would have, and is told by the code alone', async () => {
    const error = new AppError('corrupt', { detail: 'journal hunter2' });
    const failing = invocationObserver(false)(invocation(), () => Promise.reject(error));
    await expect(failing).rejects.toBe(error);
    expect(only()).toMatchObject({ status: { code: 2 }, attributes: { 'error.type': 'corrupt' } });
    expect(only().events).toEqual([]);
    expect(await points('keyturn.invocation.duration')).toEqual([
      [expect.objectContaining({ 'faas.name': 'rotations', 'error.type': 'corrupt' }), 1],
    ]);
  });

  it.each([
    [404, 0],
    [503, 2],
  ])('that answers %i has the status %i', async (status, code) => {
    await invocationObserver(false)(invocation(requested), async () => ({ status }));
    expect(only()).toMatchObject({
      status: { code },
      attributes: { 'http.response.status_code': status },
    });
  });

  it('works as well when no SDK is set up', async () => {
    for (const api of [trace, context, metrics]) api.disable();
    const observe = invocationObserver(true);
    await expect(observe(invocation(), async () => 7)).resolves.toBe(7);
  });
});

describe('a traceparent', () => {
  it('comes back from what was written', async () => {
    const span = startSpan('x');
    const text = span.within(() => currentTraceparent());
    expect(parseTraceparent(text)).toMatchObject({ traceFlags: 1, isRemote: true });
    expect(text).toContain(parseTraceparent(text)?.traceId);
  });

  it.each([
    `00-${'0'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'a'.repeat(32)}-${'0'.repeat(16)}-00`,
    `ff-${'a'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'A'.repeat(32)}-${'b'.repeat(16)}-00`,
    `00-${'a'.repeat(32)}-${'b'.repeat(16)}-000`,
    '',
    7,
    null,
  ])('that is none counts for nothing: %s', (text) => {
    expect(parseTraceparent(text)).toBeNull();
  });

  it('is never made of other texts', () => {
    fc.assert(
      fc.property(fc.anything(), (text) => {
        expect(parseTraceparent(text)).toBeNull();
      }),
    );
  });

  it('is part of a message, which is as good without', () => {
    const journal = {
      id: '01JZZZZZZZZZZZZZZZZZZZZZZZ',
      object: { vault: 'main', type: 'secret', name: 'x' },
      correlationId: 'c',
    } as const;
    const sent = resumeMessage({ ...journal, traceparent: received });
    expect(parseRotationMessage(sent)).toMatchObject({ traceparent: received });
    expect(parseRotationMessage(resumeMessage(journal))).not.toHaveProperty('traceparent');
  });
});

describe('a log line', () => {
  it('is an event of the span in which it is written, and names its trace', async () => {
    const lines: string[] = [];
    const log = tracedLog(jsonLog((line) => lines.push(line)));
    await inSpan('work', {}, async () => log.info('rotation.moved', { to: 'DONE', gapMs: null }));
    log.info('outside');
    const [event] = only().events;
    expect(event).toMatchObject({ name: 'rotation.moved', attributes: { to: 'DONE' } });
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ traceId: only().spanContext().traceId });
    expect(JSON.parse(lines[1] ?? '')).toEqual({ level: 'info', event: 'outside' });
  });
});

describe('a call to a vault', () => {
  const call = (run: VaultCall<string>['run']): VaultCall<string> => ({
    ...{ operation: 'getSecret', object: 'orders-db', weight: 1, repeatable: true, run },
    judge: () => ({
      error: new AppError('vault_throttled', { detail: 'x' }),
      transient: true,
      retryAfterMs: 1,
    }),
  });
  const limits = { perTryMs: 1_000, overallMs: 1_000, firstDelayMs: 1, maxDelayMs: 1 };

  it('is a span with its tries, and counted without the name of its object', async () => {
    const caller = createVaultCaller('main', { limits, observer: vaultTelemetry() });
    let seen: Context | null = null;
    const answer = caller.call(
      call(async (_, attempt) => {
        seen = context.active();
        if (attempt < 3) throw new Error('hunter2');
        return 'hunter2';
      }),
    );
    await expect(answer).resolves.toBe('hunter2');
    const span = only();
    expect(trace.getSpanContext(seen!)?.spanId).toBe(span.spanContext().spanId);
    expect(span).toMatchObject({
      name: 'vault.getSecret',
      kind: 2,
      attributes: {
        'keyturn.vault': 'main',
        'keyturn.object': 'orders-db',
        'keyturn.vault.attempts': 3,
      },
    });
    expect(span.events.map(({ name }) => name)).toEqual(['vault.retry', 'vault.retry']);
    const about = { 'keyturn.vault': 'main', 'keyturn.vault.operation': 'getSecret' };
    expect(await points('keyturn.vault.call.duration')).toEqual([[about, 1]]);
    expect(await points('keyturn.vault.call.errors')).toEqual([]);
    expect(await points('keyturn.vault.call.retries')).toEqual([
      [{ ...about, 'error.type': 'vault_throttled' }, 2],
    ]);
    const told = [span.attributes, span.events, measures.getMetrics()];
    expect(JSON.stringify(told)).not.toContain('hunter2');
  });

  it('that fails is told by its code', async () => {
    const caller = createVaultCaller('main', { limits, observer: vaultTelemetry() });
    const refused = { ...call(() => Promise.reject(new Error('x'))), repeatable: false };
    await expect(caller.call(refused)).rejects.toThrow();
    expect(only()).toMatchObject({ attributes: { 'error.type': 'vault_throttled' } });
    const [[about, count] = []] = await points('keyturn.vault.call.errors');
    expect([about, count]).toEqual([
      expect.objectContaining({ 'error.type': 'vault_throttled' }),
      1,
    ]);
  });

  it('tells what else befell it', async () => {
    const observer = vaultTelemetry();
    const info = { vault: 'main', operation: 'getSecret', object: 'x' };
    for (const source of ['hit', 'hit', 'miss'] as const) {
      observer.readEnded?.(info, { source, outcome: 'ok', ms: 0 });
    }
    observer.budgetWaited?.(info, 20);
    observer.budgetCut?.('main', 0.25);
    observer.invalidationFailed?.('poll', new Error('x'));
    const about = { 'keyturn.vault': 'main', 'keyturn.vault.operation': 'getSecret' };
    expect(await points('keyturn.vault.cache.reads')).toEqual([
      [{ ...about, 'keyturn.cache.source': 'hit' }, 2],
      [{ ...about, 'keyturn.cache.source': 'miss' }, 1],
    ]);
    expect(await points('keyturn.vault.budget.wait')).toEqual([[{ 'keyturn.vault': 'main' }, 1]]);
    expect(await points('keyturn.vault.budget.cuts')).toEqual([[{ 'keyturn.vault': 'main' }, 1]]);
    expect(await points('keyturn.vault.cache.invalidation_failures')).toEqual([
      [{ 'keyturn.direction': 'poll' }, 1],
    ]);
  });

  it.each([
    ['closed', 0],
    ['half-open', 1],
    ['open', 2],
  ] as const)('leaves a circuit that is %s: %i', async (circuit, level) => {
    const health = () => ({ circuit, share: circuit === 'open' ? null : 0.5, readOnlyAt: null });
    gaugeVaults([{ alias: 'main', health }]);
    const vault = { 'keyturn.vault': 'main' };
    expect(await points('keyturn.vault.circuit.state')).toEqual([[vault, level]]);
    expect(await points('keyturn.vault.budget.share')).toEqual(
      circuit === 'open' ? [] : [[vault, 0.5]],
    );
  });
});
