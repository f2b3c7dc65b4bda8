import { randomUUID } from 'node:crypto';
import { z } from 'zod';

export type EventSchema = 'EventGridSchema' | 'CloudEventSchemaV1_0';

/** What a publisher sends in the Event Grid schema. `topic` is filled in when absent. */
export const EventGridInput = z.object({
  id: z
    .string()
    .min(1)
    .default(() => randomUUID()),
  topic: z.string().optional(),
  subject: z.string().min(1),
  eventType: z.string().min(1),
  eventTime: z.string().default(() => new Date().toISOString()),
  data: z.unknown().optional(),
  dataVersion: z.string().default('1'),
  metadataVersion: z.string().optional(),
});

export type EventGridInput = z.input<typeof EventGridInput>;

export interface EventGridEvent {
  readonly id: string;
  readonly topic: string;
  readonly subject: string;
  readonly eventType: string;
  readonly eventTime: string;
  readonly data: unknown;
  readonly dataVersion: string;
  readonly metadataVersion: string;
}

const CloudEventInput = z.looseObject({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  source: z.string().min(1),
  type: z.string().min(1),
  subject: z.string().default(''),
  time: z.string().default(() => new Date().toISOString()),
  data: z.unknown().optional(),
});

/** The event in the Event Grid schema, which this service keeps inside. @throws ZodError */
export function parseEvent(value: unknown, topicName: string): EventGridEvent {
  if (typeof value === 'object' && value !== null && 'specversion' in value)
    return fromCloudEvent(value);
  const event = EventGridInput.parse(value);
  return {
    id: event.id,
    topic: event.topic ?? topicId(topicName),
    subject: event.subject,
    eventType: event.eventType,
    eventTime: event.eventTime,
    data: event.data ?? null,
    dataVersion: event.dataVersion,
    metadataVersion: '1',
  };
}

function fromCloudEvent(value: object): EventGridEvent {
  const event = CloudEventInput.parse(value);
  return {
    id: event.id,
    topic: event.source,
    subject: event.subject,
    eventType: event.type,
    eventTime: event.time,
    data: event.data ?? null,
    dataVersion: '',
    metadataVersion: '1',
  };
}

/** The resource id of a custom topic, in the shape Azure gives it. */
export function topicId(name: string): string {
  return `/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.EventGrid/topics/${name}`;
}

/** The event as one delivered object. CloudEvents have no dataVersion; `source` is the topic. */
export function toSchema(event: EventGridEvent, schema: EventSchema): Record<string, unknown> {
  if (schema === 'EventGridSchema') return { ...event };
  return {
    id: event.id,
    source: event.topic,
    subject: event.subject,
    type: event.eventType,
    time: event.eventTime,
    specversion: '1.0',
    data: event.data,
  };
}
