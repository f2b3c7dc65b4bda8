import { z } from 'zod';
import { AppError } from '../errors.ts';
import type { JsonObject } from '../storage/ports.ts';
import type { Journal } from './journal.ts';
import { ulidPattern } from './ulid.ts';

/** A version as a vault writes it. */
const Version = z.string().regex(/^[0-9a-f]{32}$/);

const base = {
  requestId: z.string().regex(ulidPattern),
  vault: z.string().min(1),
  type: z.enum(['secret', 'key', 'certificate']),
  name: z.string().min(1).max(127),
  requestedBy: z.string().min(1).max(256),
  correlationId: z.string().min(1).max(128),
  /** The span to go on from; older messages have none. What is malformed in it is ignored. */
  traceparent: z.string().max(100).exactOptional(),
};

/** What the `rotations` queue carries. `requestId` is the rotation to begin, or to go on with. */
export const RotationMessage = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('rotate'),
    ...base,
    reason: z.enum(['near-expiry', 'expired', 'scan', 'on-demand']),
    /** The version the trigger spoke of; a newer latest makes the request superseded. */
    expectedBaseVersion: z.string().nullable(),
  }),
  z.strictObject({
    kind: z.literal('resume'),
    ...base,
    /** An operator's word that a held rotation (QUARANTINED, REVOKE_FAILED) is to go on. */
    reopen: z.boolean().default(false),
  }),
  /** An operator's word that a held rotation is over: its object is free again. */
  z.strictObject({ kind: z.literal('release'), ...base }),
  /** An operator's word that the old credential is to be retired before its grace period is over. */
  z.strictObject({ kind: z.literal('retire-now'), ...base }),
  /** An operator's word that the value of an older version is to be the latest again. */
  z.strictObject({
    kind: z.literal('rollback'),
    ...base,
    toVersion: Version,
    /** The rotation that is rolled back; `requestId` is the new one. */
    rollbackOf: z.string().regex(ulidPattern),
  }),
]);
export type RotationMessage = z.output<typeof RotationMessage>;
export type RotateMessage = Extract<RotationMessage, { kind: 'rotate' }>;
/** The messages that begin a rotation. */
export type RequestMessage = Extract<RotationMessage, { kind: 'rotate' | 'rollback' }>;

/** @throws AppError `invalid_input` listing every fault */
export function parseRotationMessage(input: unknown): RotationMessage {
  const parsed = RotationMessage.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new AppError('invalid_input', { detail: `rotation message: ${faults.join('; ')}` });
}

/** What must be known of a rotation to go on with it. */
export type Resumable = Pick<Journal, 'id' | 'object' | 'correlationId'> &
  Partial<Pick<Journal, 'traceparent'>>;

/** The message that goes on with a rotation, in the trace in which it was requested. */
export function resumeMessage(
  journal: Resumable,
  by: { readonly requestedBy: string; readonly reopen: boolean } = {
    requestedBy: 'engine',
    reopen: false,
  },
): JsonObject {
  const { id, object, correlationId } = journal;
  const trace = traceMember(journal.traceparent);
  return toQueue({ kind: 'resume', requestId: id, ...object, correlationId, ...trace, ...by });
}

export function isRequest(message: RotationMessage): message is RequestMessage {
  return message.kind === 'rotate' || message.kind === 'rollback';
}

/** The message as a queue carries it. */
export function toQueue(message: RotationMessage): JsonObject {
  return { ...message };
}

/** The member of a message that has its receiver go on from the span `traceparent`; none without one. */
export function traceMember(traceparent: string | null | undefined): { traceparent?: string } {
  return traceparent ? { traceparent } : {};
}
