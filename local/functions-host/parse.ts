import { readFileSync } from 'node:fs';
import type { z } from 'zod';

/** The content of a JSON file. @throws Error that names the file */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`${file} cannot be read as JSON`, { cause });
  }
}

/** The value as `schema` has it. @throws Error that names `source` and lists every fault in it */
export function parseValue<T extends z.ZodType>(
  source: string,
  value: unknown,
  schema: T,
): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.map(
    (issue) => `${issue.path.join('.') || '(root)'}: ${issue.message}`,
  );
  throw new Error(`${source} is not valid: ${faults.join('; ')}`);
}

/** Whether the value is an object with named members: no array, not null. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
