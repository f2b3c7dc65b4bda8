import { defineHandler } from '../handler.ts';

/** A random value with no target: whoever reads the secret is told, and nobody else must accept it. */
export const generated = defineHandler<null>({
  id: 'generated',
  credentialClass: 'chosen',
  targetSettings: null,
  check: () => [],
  overlap: () => 'none',
  resources: () => [],
  nextLogin: () => null,
  preflight: async () => undefined,
  apply: async () => undefined,
  verify: async () => true,
  retire: async () => undefined,
  restore: async () => undefined,
});
