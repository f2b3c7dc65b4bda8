import { z } from 'zod';
import { ControlError } from './plane.ts';

/** @throws ControlError 400 that names every fault with its path */
export function parseControlBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new ControlError(400, z.prettifyError(parsed.error));
}
