/** The trace id of a W3C `traceparent`, or null when there is none or it is malformed. */
export function findTraceId(traceparent: string | undefined): string | null {
  const match = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(
    traceparent ?? '',
  );
  const traceId = match?.[1];
  return traceId === undefined || /^0+$/.test(traceId) ? null : traceId;
}
