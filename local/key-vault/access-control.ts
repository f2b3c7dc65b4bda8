import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Caller } from './caller.ts';
import { isLike } from './glob.ts';

// Azure role-based access control, as far as a vault asks it: which caller may perform which data action on what.

const prefix = 'Microsoft.KeyVault/vaults/';
const certificateUser = ['certificates/read', 'keys/read', 'secrets/getSecret/action'];
const cryptoUser = ['update', 'backup', 'encrypt', 'decrypt', 'wrap', 'unwrap', 'sign', 'verify'];

/** Data actions of the built-in roles, after `Microsoft.KeyVault/vaults/`. */
const builtInRoles = {
  'Key Vault Administrator': ['*'],
  'Key Vault Reader': ['*/read', 'secrets/readMetadata/action'],
  'Key Vault Secrets Officer': ['secrets/*'],
  'Key Vault Secrets User': ['secrets/getSecret/action', 'secrets/readMetadata/action'],
  'Key Vault Certificates Officer': ['certificatecas/*', 'certificates/*', 'certificatecontacts/*'],
  'Key Vault Certificate User': [...certificateUser, 'secrets/readMetadata/action'],
  'Key Vault Crypto Officer': ['keys/*', 'keyrotationpolicies/*'],
  'Key Vault Crypto User': ['keys/read', ...cryptoUser.map((verb) => `keys/${verb}/action`)],
  'Key Vault Crypto Service Encryption User': [
    'keys/read',
    'keys/wrap/action',
    'keys/unwrap/action',
  ],
  'Key Vault Crypto Service Release User': ['keys/release/action'],
} as const;
type RoleName = keyof typeof builtInRoles;

const DataActions = z.array(z.string().startsWith(prefix)).max(200);

const Assignment = z
  .strictObject({
    id: z.string().min(1).default(randomUUID),
    /** Object id or application id of the caller; `*` is everybody. */
    principalId: z.string().min(1),
    role: z.enum(Object.keys(builtInRoles) as [RoleName, ...RoleName[]]).optional(),
    dataActions: DataActions.optional(),
    notDataActions: DataActions.optional(),
    /** One object, `/secrets/orders-db`; absent: the whole vault. */
    scope: z
      .string()
      .regex(/^\/(secrets|keys|certificates)\/[0-9a-zA-Z-]{1,127}$/)
      .optional(),
  })
  .refine(({ role, dataActions }) => (role === undefined) !== (dataActions === undefined), {
    message: 'either role or dataActions',
  });
type Assignment = z.output<typeof Assignment>;

export const AccessControl = z.strictObject({
  /** Off: every caller with a valid token may do everything. */
  enforced: z.boolean(),
  assignments: z.array(Assignment).max(1000).default([]),
});
export type AccessControl = z.output<typeof AccessControl>;

export type AccessQuestion = {
  readonly caller: Caller;
  /** After `Microsoft.KeyVault/vaults/`. */
  readonly action: string;
  /** `/secrets/orders-db`; empty for what is about the vault. */
  readonly object: string;
};

/** The id of the assignment that allows it; `null` when none does. */
export function findAllowing(access: AccessControl, question: AccessQuestion): string | null {
  return access.assignments.find((assignment) => allows(assignment, question))?.id ?? null;
}

function allows(assignment: Assignment, { caller, action, object }: AccessQuestion): boolean {
  const { principalId, scope } = assignment;
  const isCaller = [caller.objectId, caller.appId, '*'].some(
    (id) => id?.toLowerCase() === principalId.toLowerCase(),
  );
  if (!isCaller) return false;
  if (scope !== undefined && scope.toLowerCase() !== object.toLowerCase()) return false;
  const isNamed = (glob: string): boolean => isLike(`${prefix}${action}`, glob);
  return dataActionsOf(assignment).some(isNamed) && !assignment.notDataActions?.some(isNamed);
}

function dataActionsOf({ role, dataActions = [] }: Assignment): readonly string[] {
  return role === undefined ? dataActions : builtInRoles[role].map((action) => prefix + action);
}
