import { z } from 'zod';
import type { Clock } from '../clock.ts';
import type { Consumer } from '../policies/consumer.ts';
import type { Vaults } from '../vault/ports.ts';
import type { EgressRules, Resolve } from './egress.ts';

/** What consumers are told of a rotation: names and versions, never a value. */
export const Notification = z.strictObject({
  rotationId: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  correlationId: z.string().optional(),
  vault: z.string(),
  objectType: z.enum(['secret', 'key', 'certificate']),
  name: z.string(),
  version: z.string(),
  previousVersion: z.string().nullable(),
  rotatedAt: z.iso.datetime(),
  /** When the old credential stops working; null when it does not or already has. */
  retireAt: z.iso.datetime().nullable(),
});
export type Notification = z.output<typeof Notification>;

/** What the kinds of consumers may use. */
export interface ConsumerServices {
  readonly vaults: Vaults;
  readonly clock: Clock;
  readonly egress: EgressRules;
  /** Default: the system's resolver. */
  readonly resolve?: Resolve;
  /** Default: 10,000. */
  readonly deadlineMs?: number;
}

/** One way of telling. */
export interface ConsumerKind<C extends Consumer> {
  readonly kind: C['kind'];
  /**
   * Tells once; `messageId` is the same at every repeat, so that the consumer can drop copies.
   * @throws AppError `consumer_refused` when a repeat is pointless, `consumer_unreachable`
   * (retryable), or what reading the consumer's own secret throws
   */
  tell(
    message: { readonly messageId: string; readonly notification: Notification },
    consumer: C,
    services: ConsumerServices,
  ): Promise<void>;
}
