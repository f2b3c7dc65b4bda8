import type { z } from 'zod';
import { AppError } from '../errors.ts';
import type { HttpRequest } from './http-message.ts';
import { type Operation, type ParsedInput, routeParameters } from './operation.ts';

/** One thing wrong with a request: where, and what would be right. */
export interface Fault {
  /** `query.limit`, `body.items[2].name`. */
  readonly field: string;
  readonly message: string;
}

/** A request that is not valid, with all that is wrong. */
export class InvalidRequest extends AppError {
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    const fields = faults.map(({ field }) => field).join(', ');
    super('invalid_input', { detail: `faults in ${fields}`.slice(0, 300) });
    this.faults = faults.slice(0, 50);
  }
}

const bodyLimitBytes = 64 * 1024;

/** Path, query and body as the operation's schemas read them. @throws InvalidRequest with every fault */
export async function parseRequest<S>(
  operation: Operation<S>,
  request: HttpRequest,
): Promise<ParsedInput> {
  const faults: Fault[] = [];
  const check = (schema: z.ZodType, value: unknown, at: string): unknown => {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    faults.push(...parsed.error.issues.flatMap((issue) => issueFaults(issue, at)));
    return null;
  };
  const params = check(operation.params, pickParams(operation.route, request.params), 'path');
  const query = check(operation.query, queryFields(request.query), 'query');
  let body: unknown;
  try {
    const json = await readJson(operation, request);
    body = operation.body === null ? undefined : check(operation.body, json, 'body');
  } catch (error) {
    if (!(error instanceof InvalidRequest)) throw error;
    faults.push(...error.faults);
  }
  if (faults.length > 0) throw new InvalidRequest(faults);
  return { params, query, body };
}

/** Only what the route names: in streaming mode the host mixes query and body fields in. */
function pickParams(
  route: string,
  given: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const names = routeParameters(route).filter((name) => Object.hasOwn(given, name));
  return Object.fromEntries(names.map((name) => [name, given[name] ?? '']));
}

/** A name that is given twice becomes a list, which no scalar schema takes. */
function queryFields(query: HttpRequest['query']): Readonly<Record<string, string | string[]>> {
  const params = query instanceof URLSearchParams ? query : new URLSearchParams(query);
  const names = [...new Set(params.keys())];
  return Object.fromEntries(
    names.map((name) => {
      const values = params.getAll(name);
      return [name, values.length === 1 ? (values[0] ?? '') : values];
    }),
  );
}

async function readJson<S>(operation: Operation<S>, request: HttpRequest): Promise<unknown> {
  if (operation.method === 'GET') return undefined;
  if (Number(request.headers['content-length'] ?? 0) > bodyLimitBytes) throw tooLarge();
  const bytes = await request.readBody();
  if (bytes.length > bodyLimitBytes) throw tooLarge();
  if (operation.body === null) {
    if (bytes.length === 0) return undefined;
    throw fault('body', 'this operation takes no body: leave it out');
  }
  if (bytes.length === 0) return undefined;
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(type)) {
    throw fault('headers.content-type', 'must be application/json');
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw fault('body', 'must be JSON in UTF-8');
  }
}

function issueFaults(issue: z.core.$ZodIssue, at: string): readonly Fault[] {
  const field = fieldPath(at, issue.path);
  if (issue.code === 'unrecognized_keys') {
    const message = 'is not a known field: leave it out';
    return issue.keys.map((key) => ({ field: fieldPath(field, [key]), message }));
  }
  return [{ field, message: cure(issue) }];
}

function fieldPath(start: string, path: readonly PropertyKey[]): string {
  const steps = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`));
  return `${start}${steps.join('')}`.slice(0, 200);
}

/** What would be right. Never what was given: that may be a secret in the wrong field. */
function cure(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be given, as ${issue.expected}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`;
    default:
      return issue.message;
  }
}

function tooLarge(): InvalidRequest {
  return fault('body', `must be at most ${bodyLimitBytes} bytes`);
}

function fault(field: string, message: string): InvalidRequest {
  return new InvalidRequest([{ field, message }]);
}
