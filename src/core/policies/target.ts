import { z } from 'zod';
import { Cover, DocumentId } from './policy.ts';

/**
 * What every target document has; the rest (`settings`) belongs to its handler, which parses it.
 * `objects` lists which objects may carry this target's credential, so that who writes policies
 * cannot have it written elsewhere.
 */
export const Target = z.strictObject({
  id: DocumentId,
  handler: DocumentId,
  objects: z.array(Cover).min(1, 'list at least one object'),
  admin: z
    .strictObject({
      vault: DocumentId,
      name: z.string().regex(/^[0-9a-zA-Z-]{1,127}$/, 'use the characters of an object name'),
      username: z.string().min(1).max(128),
    })
    .nullable()
    .default(null),
  settings: z.record(z.string(), z.unknown()),
});
export type Target = z.output<typeof Target>;
