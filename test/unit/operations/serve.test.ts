import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { AppError } from '../../../src/core/errors.ts';
import { type HttpAnswer, serve } from '../../../src/core/operations/index.ts';
import { type CallContext, operation } from '../../../src/core/operations/operation.ts';
import { aCaller, aRequest, someServices } from './support.ts';

interface Greeter {
  readonly greet: (name: string) => Promise<unknown>;
}

const Body = z.strictObject({
  count: z.int().min(1).max(9),
  mode: z.enum(['fast', 'slow']).default('fast'),
  items: z.array(z.strictObject({ name: z.string() })).optional(),
});

const greet = operation({
  id: 'greet',
  summary: 'Greets.',
  method: 'POST',
  route: 'people/{name}/greetings',
  allow: 'Keyturn.Rotations.Operate',
  audit: 'durable',
  auditSubject: ({ params, body }) => ({
    object: `main/secret/${params.name}`,
    detail: { count: body.count },
  }),
  params: z.object({ name: z.string().max(20) }),
  query: z.object({ lang: z.string().optional() }),
  body: Body,
  returns: z.object({ greeting: z.string(), on: z.date() }),
  status: 202,
  errors: ['conflict', 'forbidden', 'vault_unavailable'],
  run: async ({ params, query, body }, { services, caller, clock }: CallContext<Greeter>) => {
    const said = await services.greet(params.name);
    const greeting = `${query.lang ?? 'en'} ${said} ${body.count} ${body.mode} ${caller.subject}`;
    return { greeting, on: clock.now(), secret: 'not in returns' };
  },
});

const open = operation({
  id: 'open',
  summary: 'Says yes.',
  method: 'GET',
  route: 'open',
  allow: 'public',
  audit: 'none',
  returns: z.literal('yes'),
  errors: [],
  run: async () => 'yes' as const,
});

/** A call that is in order, but for what is given. */
function aCall(more: Parameters<typeof aRequest>[0] = {}) {
  return aRequest({ method: 'POST', params: { name: 'ann' }, json: { count: 2 }, ...more });
}

const greeter: Greeter = { greet: async (name) => `hello ${name}` };

function failing(error: unknown): Greeter {
  return { greet: () => Promise.reject(error) };
}

function bodyOf(answer: HttpAnswer): Record<string, unknown> {
  return JSON.parse(answer.body ?? 'null');
}

describe('serve', () => {
  it('answers, and records before and after', async () => {
    const { services, entries, lines } = someServices();
    const greetNow: Greeter = {
      greet: async () => {
        expect(entries.map(({ outcome }) => outcome)).toEqual(['intended']);
        return 'hello';
      },
    };
    const answer = await serve(greet, aCall({ query: { lang: 'de' } }), {
      ...services,
      ...greetNow,
    });
    expect(answer.status).toBe(202);
    expect(bodyOf(answer)).toEqual({
      greeting: 'de hello 2 fast subject-1',
      on: '2026-11-22T08:00:00.000Z',
    });
    expect(answer.headers).toEqual({
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-correlation-id': expect.stringMatching(/^[0-9A-Z]{26}$/),
    });
    const correlationId = answer.headers['x-correlation-id'];
    const common = {
      at: new Date('2026-11-22T08:00:00.000Z'),
      actor: 'object-1',
      action: 'api.greet',
      object: 'main/secret/ann',
      correlationId,
      detail: { count: 2 },
    };
    expect(entries).toEqual([
      { ...common, id: `${correlationId}.intended`, outcome: 'intended' },
      { ...common, id: `${correlationId}.done`, outcome: 'done' },
    ]);
    expect(lines).toMatchObject([
      { event: 'request.answered', operation: 'greet', status: 202, correlationId },
    ]);
  });

  it('refuses who does not say who they are, whatever the platform’s headers claim', async () => {
    const { services, entries } = someServices();
    const principal = Buffer.from(
      JSON.stringify({ claims: [{ typ: 'roles', val: 'Keyturn.Rotations.Operate' }] }),
    ).toString('base64');
    for (const headers of [
      { authorization: '' },
      { authorization: 'Bearer forged' },
      { authorization: 'Bearer forged', 'x-ms-client-principal': principal },
      { authorization: 'Bearer good', Authorization: 'Bearer good' },
    ]) {
      const answer = await serve(greet, aCall({ headers }), { ...services, ...greeter });
      expect(answer.status).toBe(401);
      expect(answer.headers).toMatchObject({
        'www-authenticate': 'Bearer',
        'content-type': 'application/problem+json',
        'cache-control': 'no-store',
      });
      expect(bodyOf(answer)).toEqual({
        type: 'urn:keyturn:problem:unauthenticated',
        title: 'Unauthenticated',
        status: 401,
        detail: 'A valid access token is required.',
        code: 'unauthenticated',
        instance: expect.stringMatching(/^urn:keyturn:request:[0-9A-Z]{26}$/),
      });
    }
    const bare = { ...aCall(), headers: {} };
    expect((await serve(greet, bare, { ...services, ...greeter })).status).toBe(401);
    expect(entries).toEqual([]);
  });

  it('refuses and records who lacks the role, and reads nothing of theirs', async () => {
    const { services, entries } = someServices(aCaller('Keyturn.Rotations.Read'));
    const readBody = () => Promise.reject(new Error('read'));
    const answer = await serve(greet, aCall({ readBody }), { ...services, ...greeter });
    expect(bodyOf(answer)).toMatchObject({ status: 403, code: 'forbidden' });
    expect(entries).toMatchObject([
      { action: 'api.greet', outcome: 'refused', detail: { needs: 'Keyturn.Rotations.Operate' } },
    ]);
  });

  it('asks nobody who they are when anyone may', async () => {
    const { services } = someServices();
    const answer = await serve(open, aRequest({ headers: { authorization: 'junk' } }), services);
    expect(answer).toMatchObject({ status: 200, body: '"yes"' });
  });

  it('knows no other method', async () => {
    const { services } = someServices();
    expect((await serve(open, aRequest({ method: 'DELETE' }), services)).status).toBe(404);
  });

  it('lists everything that is wrong, where, and what would be right', async () => {
    const { services, entries } = someServices();
    const answer = await serve(
      greet,
      aCall({
        params: { name: 'x'.repeat(21), count: '1' },
        query: new URLSearchParams('lang=a&lang=b&tongue=c'),
        json: {
          count: 10,
          mode: 'canary-value',
          items: [{ name: 'a' }, { nam: 'canary-value' }],
          more: 1,
        },
      }),
      { ...services, ...greeter },
    );
    const { faults, code } = bodyOf(answer);
    expect(code).toBe('invalid_input');
    expect(faults).toEqual(
      expect.arrayContaining([
        { field: 'path.name', message: expect.stringContaining('20') },
        { field: 'query.lang', message: 'must be given, as string' },
        { field: 'query.tongue', message: 'is not a known field: leave it out' },
        { field: 'body.count', message: expect.stringContaining('9') },
        { field: 'body.mode', message: 'must be one of fast, slow' },
        { field: 'body.items[1].name', message: 'must be given, as string' },
        { field: 'body.items[1].nam', message: 'is not a known field: leave it out' },
        { field: 'body.more', message: 'is not a known field: leave it out' },
      ]),
    );
    expect(answer.body).not.toContain('canary');
    expect(entries).toEqual([]);
  });

  it('takes path parameters from the route alone', async () => {
    const { services } = someServices();
    const polluted = { name: 'ann', count: '9', admin: 'true', lang: 'de' };
    const answer = await serve(greet, aCall({ params: polluted }), { ...services, ...greeter });
    expect(bodyOf(answer)['greeting']).toBe('en hello ann 2 fast subject-1');
    const inherited = await serve(greet, aCall({ params: {} }), { ...services, ...greeter });
    expect(bodyOf(inherited)['faults']).toMatchObject([{ field: 'path.name' }]);
  });

  it.each<[string, Parameters<typeof aRequest>[0], string]>([
    ['another content type', { headers: { 'content-type': 'text/plain' } }, 'headers.content-type'],
    [
      'another charset',
      { headers: { 'content-type': 'application/json; charset=utf-16' } },
      'headers.content-type',
    ],
    [
      'a type that only starts alike',
      { headers: { 'content-type': 'application/jsonp' } },
      'headers.content-type',
    ],
    ['a missing body', { readBody: async () => new Uint8Array() }, 'body'],
    ['broken JSON', { readBody: async () => Buffer.from('{"count":') }, 'body'],
    ['bytes that are no UTF-8', { readBody: async () => Uint8Array.of(0x22, 0xff, 0x22) }, 'body'],
    ['a declared length over the limit', { headers: { 'content-length': '65537' } }, 'body'],
    ['a body over the limit', { readBody: async () => Buffer.alloc(65_537, ' ') }, 'body'],
    ['a body that is a list', { json: [] }, 'body'],
    ['deep nesting', { readBody: async () => Buffer.from('['.repeat(65_000)) }, 'body'],
    [
      'a __proto__ field',
      { readBody: async () => Buffer.from('{"count":2,"__proto__":{"x":1}}') },
      'body.__proto__',
    ],
  ])('refuses %s', async (_name, more, field) => {
    const { services } = someServices();
    const answer = await serve(greet, aCall(more), { ...services, ...greeter });
    expect(answer.status).toBe(400);
    expect(bodyOf(answer)['faults']).toMatchObject([{ field }]);
  });

  it.each([
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON;charset="UTF-8"',
  ])('takes a body of type %s', async (type) => {
    const { services } = someServices();
    const call = aCall({ headers: { 'content-type': type } });
    expect((await serve(greet, call, { ...services, ...greeter })).status).toBe(202);
  });

  it('answers what the operation declares, in public words only', async () => {
    const { services, entries, lines } = someServices();
    const error = new AppError('conflict', { detail: 'operator words' });
    const answer = await serve(greet, aCall(), { ...services, ...failing(error) });
    expect(bodyOf(answer)).toMatchObject({
      status: 409,
      title: 'Conflict',
      detail: 'The state has changed meanwhile.',
    });
    expect(answer.body).not.toContain('operator');
    expect(entries.at(-1)).toMatchObject({
      outcome: 'failed',
      detail: { count: 2, code: 'conflict' },
    });
    expect(lines[0]).toMatchObject({ level: 'warn', event: 'request.refused', code: 'conflict' });
  });

  it('tells when to come back where that helps', async () => {
    const { services } = someServices();
    const error = new AppError('vault_unavailable', { detail: 'x' });
    const answer = await serve(greet, aCall(), { ...services, ...failing(error) });
    expect(answer).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
  });

  it('records as refused what the operation itself forbids', async () => {
    const { services, entries } = someServices();
    const error = new AppError('forbidden', { detail: 'x' });
    const answer = await serve(greet, aCall(), { ...services, ...failing(error) });
    expect(answer.status).toBe(403);
    expect(entries.at(-1)).toMatchObject({ outcome: 'refused' });
  });

  it.each([
    ['an undeclared code', new AppError('object_deleted', { detail: 'canary' })],
    ['an unforeseen error', new TypeError('canary')],
    ['a thrown text', 'canary'],
  ])('makes %s an internal error, logged and not told', async (_name, error) => {
    const { services, lines } = someServices();
    const answer = await serve(greet, aCall(), { ...services, ...failing(error) });
    expect(bodyOf(answer)).toMatchObject({ status: 500, code: 'internal' });
    expect(answer.body).not.toContain('canary');
    expect(lines[0]).toMatchObject({ level: 'error', event: 'request.failed', operation: 'greet' });
  });

  it('lets no answer out that is not as declared', async () => {
    const wrong = operation({
      ...open,
      id: 'wrong',
      params: z.object({}),
      query: z.object({}),
      allow: 'public',
      body: z.undefined(),
      run: async () => 'canary',
    });
    const { services } = someServices();
    const answer = await serve(wrong, aRequest(), services);
    expect(answer.status).toBe(500);
    expect(answer.body).not.toContain('canary');
  });

  it('does nothing that it could not record', async () => {
    const { services } = someServices();
    const unrecorded = new AppError('storage_unavailable', { detail: 'x' });
    const answer = await serve(greet, aCall(), {
      ...services,
      ...failing(new Error('ran')),
      audit: { append: () => Promise.reject(unrecorded) },
    });
    expect(bodyOf(answer)).toMatchObject({ status: 503, code: 'storage_unavailable' });
  });

  it('says what was done although its outcome could not be recorded', async () => {
    const { services, lines } = someServices();
    let appends = 0;
    const append = async () => {
      if (++appends > 1) throw new AppError('storage_unavailable', { detail: 'x' });
    };
    const answer = await serve(greet, aCall(), { ...services, ...greeter, audit: { append } });
    expect(answer.status).toBe(202);
    expect(lines[0]).toMatchObject({ level: 'error', event: 'audit.entry_lost' });
  });

  it('does not wait for a buffered record, and says when one is lost', async () => {
    const { services, lines } = someServices(aCaller('Keyturn.Rotations.Read'));
    const read = operation({
      id: 'read',
      summary: 'Reads.',
      method: 'GET',
      route: 'read',
      allow: 'Keyturn.Rotations.Read',
      audit: 'buffered',
      returns: z.undefined(),
      status: 204,
      errors: [],
      run: async () => undefined,
    });
    const { promise, reject } = Promise.withResolvers<void>();
    const answer = await serve(read, aRequest(), { ...services, audit: { append: () => promise } });
    expect(answer).toMatchObject({ status: 204, body: null });
    reject(new Error('lost'));
    await promise.catch(() => {});
    await new Promise(setImmediate);
    expect(lines.map(({ event }) => event)).toContain('audit.entry_lost');
  });

  it('refuses a body where none is taken', async () => {
    const cancel = operation({
      id: 'cancel',
      summary: 'Cancels.',
      method: 'POST',
      route: 'cancel',
      allow: 'Keyturn.Rotations.Operate',
      audit: 'durable',
      returns: z.undefined(),
      status: 204,
      errors: [],
      run: async () => undefined,
    });
    const { services } = someServices();
    expect((await serve(cancel, aRequest({ method: 'POST' }), services)).status).toBe(204);
    const answer = await serve(
      cancel,
      aRequest({ method: 'POST', json: { dryRun: true } }),
      services,
    );
    expect(bodyOf(answer)['faults']).toMatchObject([{ field: 'body' }]);
  });

  it('answers when a call takes too long, tells it so, and records how it ended', async () => {
    const { services, entries, lines } = someServices();
    const { promise: finished, resolve } = Promise.withResolvers<void>();
    const slow = operation({
      ...open,
      id: 'slow',
      params: z.object({}),
      query: z.object({}),
      body: z.undefined(),
      allow: 'public',
      audit: 'durable',
      run: async (_input, { signal }: CallContext<object, null>) => {
        await new Promise((done) => signal.addEventListener('abort', done));
        setImmediate(resolve);
        return 'yes' as const;
      },
    });
    const answer = await serve(slow, aRequest(), { ...services, deadlineMs: 30 });
    expect(bodyOf(answer)).toMatchObject({ status: 500, code: 'internal' });
    expect(lines[0]).toMatchObject({
      event: 'request.failed',
      error: expect.stringContaining('30 ms'),
    });
    await finished;
    expect(entries.at(-1)).toMatchObject({ outcome: 'done', actor: 'anonymous' });
  });

  it.each([
    ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '4bf92f3577b34da6a3ce929d0e0e4736'],
    ['00-00000000000000000000000000000000-00f067aa0ba902b7-01', null],
    ['ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', null],
    ['x\r\ny: z', null],
  ])('takes the correlation from traceparent %j: %s', async (traceparent, expected) => {
    const { services } = someServices();
    const answer = await serve(open, aRequest({ headers: { TraceParent: traceparent } }), services);
    const given = answer.headers['x-correlation-id'];
    if (expected === null) expect(given).toMatch(/^[0-9A-Z]{26}$/);
    else expect(given).toBe(expected);
  });

  it('answers anything at all with a status below 500 and no echo of values', async () => {
    const { services } = someServices();
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        fc.dictionary(fc.string(), fc.string()),
        fc.dictionary(fc.string(), fc.string()),
        async (bytes, params, query) => {
          const call = aCall({ params, query, readBody: async () => bytes });
          const answer = await serve(greet, call, { ...services, ...greeter });
          expect(answer.status).toBeLessThan(500);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
