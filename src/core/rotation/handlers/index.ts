import type { AnyHandler } from '../handler.ts';
import { generated } from './generated.ts';
import { postgresql } from './postgresql.ts';

/** Every rotation handler, by id. */
export const handlers: ReadonlyMap<string, AnyHandler> = new Map(
  [generated, postgresql].map((handler) => [handler.id, handler]),
);
