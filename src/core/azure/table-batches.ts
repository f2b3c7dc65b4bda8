import { AsyncLocalStorage } from 'node:async_hooks';
import type { TableServiceClientOptions } from '@azure/data-tables';
import { AppError } from '../errors.ts';

type Policies = NonNullable<TableServiceClientOptions['additionalPolicies']>;

const conditions = new AsyncLocalStorage<ReadonlyMap<string, string>>();

/** Runs `submit` so that the batch it sends deletes each row of `etags` (by RowKey) only under its ETag. */
export function withDeleteConditions<T>(
  etags: ReadonlyMap<string, string>,
  submit: () => Promise<T>,
): Promise<T> {
  return conditions.run(etags, submit);
}

/**
 * The SDK writes `If-Match: *` into every delete of a batch and offers no way to say otherwise.
 * This puts the ETags in on the way out, and refuses to send a batch in which it cannot.
 */
export const batchPolicies: Policies = [
  {
    position: 'perCall',
    policy: {
      name: 'keyturnDeleteConditions',
      sendRequest: (request, next) => {
        const etags = conditions.getStore();
        if (etags !== undefined && etags.size > 0 && typeof request.body === 'string') {
          request.body = withConditions(request.body, etags);
        }
        return next(request);
      },
    },
  },
];

function withConditions(body: string, etags: ReadonlyMap<string, string>): string {
  const parts = body.split('\r\n--changeset_');
  let placed = 0;
  const edited = parts.map((part) => {
    const rowKey = /\r\nDELETE [^\r\n]*RowKey='([^']*)'/.exec(part)?.[1];
    const etag = rowKey === undefined ? undefined : etags.get(decodeURIComponent(rowKey));
    if (etag === undefined) return part;
    placed++;
    return part.replace(/\r\nif-match: \*/i, () => `\r\nIf-Match: ${etag}`);
  });
  const result = edited.join('\r\n--changeset_');
  if (placed !== etags.size || [...etags.values()].some((etag) => !result.includes(etag))) {
    throw new AppError('internal', { detail: 'could not put delete conditions into a batch' });
  }
  return result;
}
