/** What became of one attempt to deliver. */
export type Outcome = { readonly kind: 'delivered' } | Failure;

export interface Failure {
  readonly kind: 'failed';
  /** `lastDeliveryOutcome` of a dead letter. */
  readonly outcome: string;
  /** `deadLetterReason` when another attempt would be refused the same way; else `null`. */
  readonly finalReason: string | null;
  /** The shortest wait before the next attempt. */
  readonly leastRetrySeconds: number;
}

interface Meaning {
  readonly outcome: string;
  readonly leastRetrySeconds?: number;
  /** Name of the status in `deadLetterReason`, for those that are not tried again. */
  readonly final?: string;
}

// Source: Event Grid message delivery and retry, "Failure codes" and "LastDeliveryOutcome".
const meanings: Readonly<Record<number, Meaning>> = {
  400: { outcome: 'BadRequest', final: 'BadRequest' },
  401: { outcome: 'Unauthorized', final: 'Unauthorized' },
  403: { outcome: 'Forbidden', final: 'Forbidden' },
  404: { outcome: 'NotFound' },
  408: { outcome: 'TimedOut', leastRetrySeconds: 120 },
  413: { outcome: 'PayloadTooLarge', final: 'RequestEntityTooLarge' },
  429: { outcome: 'Busy' },
  503: { outcome: 'Busy', leastRetrySeconds: 30 },
};

// Where Azure resources differ from webhooks.
const resourceMeanings: Readonly<Record<number, Meaning>> = {
  401: { outcome: 'Unauthorized', leastRetrySeconds: 300 },
  404: { outcome: 'NotFound', leastRetrySeconds: 300 },
};

/** The outcome an HTTP status stands for. Only 200 to 204 count as taken. */
export function outcomeOf(status: number, destination: 'webhook' | 'azure-resource'): Outcome {
  if (status >= 200 && status <= 204) return { kind: 'delivered' };
  const special = destination === 'azure-resource' ? resourceMeanings[status] : undefined;
  const meaning = special ?? meanings[status] ?? { outcome: 'GenericError' };
  return {
    kind: 'failed',
    outcome: meaning.outcome,
    finalReason: meaning.final === undefined ? null : `UndeliverableDueToHttp${meaning.final}`,
    leastRetrySeconds: meaning.leastRetrySeconds ?? 10,
  };
}

/** The outcome when there was no answer. */
export function outcomeOfError(error: unknown): Failure {
  const isLate = error instanceof Error && error.name === 'TimeoutError';
  const text = error instanceof Error ? `${error.message} ${String(error.cause)}` : '';
  const isUnresolved = /ENOTFOUND|EAI_AGAIN/.test(text);
  return {
    kind: 'failed',
    outcome: isLate ? 'TimedOut' : isUnresolved ? 'ResolutionError' : 'SocketError',
    finalReason: null,
    leastRetrySeconds: 10,
  };
}
