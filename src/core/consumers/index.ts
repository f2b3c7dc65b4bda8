import type { Consumer } from '../policies/consumer.ts';
import type { ConsumerKind } from './notification.ts';
import { webhook } from './webhook.ts';

/** Every kind of consumer, one line each. */
export const consumerKinds: {
  readonly [K in Consumer['kind']]: ConsumerKind<Extract<Consumer, { kind: K }>>;
} = {
  webhook,
};
