import { describe, expect, it } from 'vitest';
import { parseRotationMessage, resumeMessage } from '../../../src/core/rotation/message.ts';

const rotate = {
  kind: 'rotate',
  requestId: '01JZZZZZZZZZZZZZZZZZZZZZZZ',
  vault: 'main',
  type: 'secret',
  name: 'orders-db',
  requestedBy: 'ada',
  correlationId: 'c',
  reason: 'on-demand',
  expectedBaseVersion: null,
};

describe('a rotation message', () => {
  it('comes back as it was sent', () => {
    expect(parseRotationMessage(rotate)).toEqual(rotate);
  });

  it.each([
    { kind: 'retire-now' },
    { kind: 'release' },
    { kind: 'rollback', toVersion: 'a'.repeat(32), rollbackOf: rotate.requestId },
  ])('that carries an order comes back as it was sent: $kind', (order) => {
    const { reason: _reason, expectedBaseVersion: _version, ...base } = rotate;
    expect(parseRotationMessage({ ...base, ...order })).toEqual({ ...base, ...order });
  });

  it('to rotate cannot ask for a rollback', () => {
    const sneaky = { ...rotate, reason: 'rollback' };
    expect(() => parseRotationMessage(sneaky)).toThrow('reason');
    expect(() => parseRotationMessage({ ...rotate, toVersion: 'a'.repeat(32) })).toThrow();
  });

  it('to resume does not reopen unless it says so', () => {
    const { reason: _reason, expectedBaseVersion: _version, ...base } = rotate;
    expect(parseRotationMessage({ ...base, kind: 'resume' })).toMatchObject({ reopen: false });
  });

  it('to resume is readable to who gets it', () => {
    const journal = {
      id: rotate.requestId,
      object: { vault: 'main', type: 'secret', name: 'orders-db' },
      correlationId: 'c',
    } as const;
    expect(parseRotationMessage(resumeMessage(journal))).toMatchObject({
      kind: 'resume',
      requestId: rotate.requestId,
      requestedBy: 'engine',
    });
  });

  it.each([
    ['nothing', null, ['rotation message']],
    ['of an unknown kind', { ...rotate, kind: 'destroy' }, ['kind']],
    [
      'with several faults',
      { ...rotate, requestId: 'x', reason: 'why', name: '' },
      ['requestId', 'name', 'reason'],
    ],
    ['with a member too many', { ...rotate, value: 'hunter2' }, ['value']],
    ['with a name no vault has', { ...rotate, name: 'x'.repeat(128) }, ['name']],
  ])('%s is refused with every fault', (_what, input, fields) => {
    for (const field of fields) expect(() => parseRotationMessage(input)).toThrow(field);
    expect(() => parseRotationMessage(input)).not.toThrow('hunter2');
  });
});
