import { z } from 'zod';
import type { EventGridEvent } from './schemas.ts';

const Text = z.array(z.string().max(512)).min(1);
const Numbers = z.array(z.number()).min(1);
const Ranges = z.array(z.tuple([z.number(), z.number()])).min(1);
const key = z.string().min(1);

const textOperators = [
  'StringIn',
  'StringNotIn',
  'StringBeginsWith',
  'StringNotBeginsWith',
  'StringEndsWith',
  'StringNotEndsWith',
  'StringContains',
  'StringNotContains',
] as const;
const numberOperators = [
  'NumberLessThan',
  'NumberLessThanOrEquals',
  'NumberGreaterThan',
  'NumberGreaterThanOrEquals',
] as const;

const AdvancedFilter = z.union(
  [
    z.strictObject({ operatorType: z.enum(textOperators), key, values: Text }),
    z.strictObject({ operatorType: z.enum(numberOperators), key, value: z.number() }),
    z.strictObject({ operatorType: z.enum(['NumberIn', 'NumberNotIn']), key, values: Numbers }),
    z.strictObject({
      operatorType: z.enum(['NumberInRange', 'NumberNotInRange']),
      key,
      values: Ranges,
    }),
    z.strictObject({ operatorType: z.literal('BoolEquals'), key, value: z.boolean() }),
    z.strictObject({ operatorType: z.literal('IsNullOrUndefined'), key }),
    z.strictObject({ operatorType: z.literal('IsNotNull'), key }),
  ],
  { error: 'is no advanced filter: an operatorType of Event Grid, key, and its value or values' },
);

export type AdvancedFilter = z.output<typeof AdvancedFilter>;

const mostValues = 25;

/** What a subscription wants, named as in ARM. Limits are Azure's. */
export const EventFilter = z.strictObject({
  includedEventTypes: z.array(z.string()).optional(),
  subjectBeginsWith: z.string().optional(),
  subjectEndsWith: z.string().optional(),
  isSubjectCaseSensitive: z.boolean().optional(),
  enableAdvancedFilteringOnArrays: z.boolean().optional(),
  advancedFilters: z
    .array(AdvancedFilter)
    .max(mostValues)
    .refine((filters) => countValues(filters) <= mostValues, {
      error: `has more than ${mostValues} values in all`,
    })
    .optional(),
});

export type EventFilter = z.input<typeof EventFilter>;

function countValues(filters: readonly AdvancedFilter[]): number {
  return filters.reduce((sum, filter) => sum + ('values' in filter ? filter.values.length : 1), 0);
}

/** Whether a subscription with `filter` gets the event. Case matters for the subject alone, and only on demand. */
export function matchesFilter(event: EventGridEvent, filter: EventFilter): boolean {
  const fold = (text: string) => (filter.isSubjectCaseSensitive ? text : text.toLowerCase());
  const types = filter.includedEventTypes?.map((type) => type.toLowerCase());
  const subject = fold(event.subject);
  return (
    (types === undefined || types.includes(event.eventType.toLowerCase())) &&
    subject.startsWith(fold(filter.subjectBeginsWith ?? '')) &&
    subject.endsWith(fold(filter.subjectEndsWith ?? '')) &&
    (filter.advancedFilters ?? []).every((one) => matchesAdvanced(event, one, filter))
  );
}

function matchesAdvanced(
  event: EventGridEvent,
  one: AdvancedFilter,
  { enableAdvancedFilteringOnArrays: onArrays = false }: EventFilter,
): boolean {
  const value = valueAt(event, one.key);
  if (one.operatorType === 'IsNullOrUndefined') return isAbsent(value);
  if (one.operatorType === 'IsNotNull') return !isAbsent(value);
  // A list passes by any of its members, so that a negation must hold for all of them.
  const found = Array.isArray(value) && onArrays ? value : [value];
  const isMet = found.some((member) => isMetBy(one, member));
  return one.operatorType.includes('Not') ? !isMet : isMet;
}

function isAbsent(value: unknown): boolean {
  return value === null || value === undefined;
}

// CloudEvents and Event Grid names of the same member; both name the event's own.
const members: Readonly<Record<string, keyof EventGridEvent>> = {
  id: 'id',
  topic: 'topic',
  source: 'topic',
  subject: 'subject',
  eventtype: 'eventType',
  type: 'eventType',
  eventtime: 'eventTime',
  time: 'eventTime',
  dataversion: 'dataVersion',
};

function valueAt(event: EventGridEvent, path: string): unknown {
  const [first = '', ...rest] = path.split('.');
  if (first.toLowerCase() !== 'data') {
    const member = rest.length === 0 ? members[first.toLowerCase()] : undefined;
    return member === undefined ? undefined : event[member];
  }
  return rest.reduce<unknown>((value, name) => memberOf(value, name), event.data);
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([other]) => other.toLowerCase() === name.toLowerCase())?.[1];
}

type Comparison = Exclude<
  AdvancedFilter,
  { readonly operatorType: 'IsNullOrUndefined' | 'IsNotNull' }
>;

/** Whether the value is what the operator, without its `Not`, asks for. */
function isMetBy(filter: Comparison, value: unknown): boolean {
  if (filter.operatorType === 'BoolEquals') return value === filter.value;
  if (typeof value === 'number') return isMetByNumber(filter, value);
  if (typeof value === 'string') return isMetByText(filter, value.toLowerCase());
  return false;
}

function isMetByNumber(filter: Comparison, value: number): boolean {
  switch (filter.operatorType) {
    case 'NumberIn':
    case 'NumberNotIn':
      return filter.values.includes(value);
    case 'NumberInRange':
    case 'NumberNotInRange':
      return filter.values.some(([low, high]) => value >= low && value <= high);
    case 'NumberLessThan':
      return value < filter.value;
    case 'NumberLessThanOrEquals':
      return value <= filter.value;
    case 'NumberGreaterThan':
      return value > filter.value;
    case 'NumberGreaterThanOrEquals':
      return value >= filter.value;
    default:
      return false;
  }
}

function isMetByText(filter: Comparison, text: string): boolean {
  const any = (values: readonly string[], compare: (wanted: string) => boolean) =>
    values.some((wanted) => compare(wanted.toLowerCase()));
  switch (filter.operatorType) {
    case 'StringIn':
    case 'StringNotIn':
      return any(filter.values, (wanted) => text === wanted);
    case 'StringBeginsWith':
    case 'StringNotBeginsWith':
      return any(filter.values, (wanted) => text.startsWith(wanted));
    case 'StringEndsWith':
    case 'StringNotEndsWith':
      return any(filter.values, (wanted) => text.endsWith(wanted));
    case 'StringContains':
    case 'StringNotContains':
      return any(filter.values, (wanted) => text.includes(wanted));
    default:
      return false;
  }
}
