import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { parseBody } from './bundles.ts';
import { errors } from './errors.ts';
import type { Answer, Call, Operation } from './operation.ts';

const Body = z.object({ count: z.int() });
const maxCount = 128;

export const randomOperations: readonly Operation[] = [
  {
    id: 'getRandomBytes',
    action: 'rng/action',
    serviceName: 'RandomBytesGet',
    method: 'POST',
    template: '/rng',
    effect: 'read',
    run: getRandomBytes,
  },
];

function getRandomBytes(call: Call): Answer {
  const { count } = parseBody(Body, call.body);
  if (count < 1 || count > maxCount) {
    throw errors.badParameter(
      `GetRandomBytesRequest: count cannot be greater than ${maxCount} or less than 1`,
    );
  }
  return { body: { value: randomBytes(count).toString('base64url') } };
}
