import type { ObjectType } from './store.ts';

// Every refusal of the data plane. Texts are the real service's where they are known; docs/emulator.md lists ours.

/** A refusal as the wire shows it: `{"error":{"code","message","innererror"?:{"code"}}}` under `status`. */
export class VaultError extends Error {
  readonly status: number;
  readonly code: string;
  readonly innerCode: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    [status, code, innerCode]: readonly [number, string, string?],
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.innerCode = innerCode ?? null;
    this.headers = headers;
  }

  body(): unknown {
    const inner = this.innerCode === null ? {} : { innererror: { code: this.innerCode } };
    return { error: { code: this.code, message: this.message, ...inner } };
  }
}

const helpLink = 'https://go.microsoft.com/fwlink/?linkid=2125182';

const article = { Secret: 'A secret', Key: 'A key' } as const;

export const errors = {
  missingToken: (challenge: string) =>
    new VaultError(
      [401, 'Unauthorized'],
      'AKV10000: Request is missing a Bearer or PoP token.',
      challenged(challenge),
    ),
  refusedToken: (challenge: string, message: string) =>
    new VaultError([401, 'Unauthorized'], message, challenged(challenge)),
  revokedToken: (claimsChallenge: string) =>
    new VaultError(
      [401, 'Unauthorized'],
      'Continuous access evaluation resulted in challenge: the token was revoked.',
      challenged(claimsChallenge),
    ),
  issuerUnreachable: () =>
    new VaultError([503, 'ServiceUnavailable'], 'The key set of the token issuer does not answer.'),

  badParameter: (message: string) => new VaultError([400, 'BadParameter'], message),
  badProperty: (property: string) =>
    new VaultError([400, 'BadParameter'], `Property ${property} has invalid value\r\n`),
  forbiddenByRbac: (about: {
    readonly caller: string;
    readonly action: string;
    readonly resource: string;
    readonly place: string;
  }) =>
    new VaultError(
      [403, 'Forbidden', 'ForbiddenByRbac'],
      `Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: ${about.caller}\r\nAction: '${about.action}'\r\nResource: '${about.resource}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n${about.place}\r\n`,
    ),
  forbiddenByFirewall: (address: string, caller: string, place: string) =>
    new VaultError(
      [403, 'Forbidden', 'ForbiddenByFirewall'],
      `Client address is not authorized and caller is not a trusted service.\r\nClient address: ${address}\r\nCaller: ${caller}\r\n${place}`,
    ),
  forbiddenByConnection: (caller: string, place: string) =>
    new VaultError(
      [403, 'Forbidden', 'ForbiddenByConnection'],
      `Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\nCaller: ${caller}\r\n${place}`,
    ),
  throttled: (reason: string, headers: Readonly<Record<string, string>>) =>
    new VaultError(
      [429, 'Throttled'],
      `Request was not processed because too many requests were received. Reason: ${reason}`,
      headers,
    ),

  missingApiVersion: () => new VaultError([400, 'BadParameter'], 'api-version must be specified'),
  unknownApiVersion: (version: string, latest: string) =>
    new VaultError(
      [400, 'BadParameter'],
      `The specified version (${version}) is not recognized. Consider using the latest supported version (${latest}).`,
    ),
  invalidName: (name: string) =>
    new VaultError([400, 'BadParameter'], `The request URI contains an invalid name: ${name}`),
  bodyTooLarge: (bytes: number) =>
    new VaultError(
      [413, 'RequestEntityTooLarge'],
      `The request body is longer than ${bytes} bytes.`,
    ),
  malformedRequest: (status: number, message: string) =>
    new VaultError([status, 'BadRequest'], message),

  unknownPath: () => new VaultError([404, 'NotFound'], 'The requested resource was not found.'),
  methodNotAllowed: (method: string) =>
    new VaultError([405, 'MethodNotAllowed'], `HTTP ${method} not allowed`),

  notFound: (type: ObjectType, nameOrId: string) =>
    new VaultError(
      [404, `${type}NotFound`],
      // Shorter than for the other two.
      type === 'Certificate'
        ? `Certificate not found: ${nameOrId}`
        : `${article[type]} with (name/id) ${nameOrId} was not found in this key vault. If you recently deleted this ${type.toLowerCase()} you may be able to recover it using the correct recovery command. For help resolving this issue, please see ${helpLink}`,
    ),
  deletedNotFound: (type: ObjectType, name: string) =>
    new VaultError([404, `${type}NotFound`], `Deleted ${type} not found: ${name}`),
  disabled: (type: ObjectType, operation: string) =>
    new VaultError(
      [403, 'Forbidden', `${type}Disabled`],
      `Operation ${operation} is not allowed on a disabled ${type.toLowerCase()}.`,
    ),
  managedByCertificate: (type: ObjectType, operation: string) =>
    new VaultError(
      [403, 'Forbidden', `${type}ManagedByKeyVault`],
      `Operation "${operation}" is not allowed on this ${type.toLowerCase()}, since it is associated with a certificate. Perform the operation on the corresponding certificate. For more information refer to https://docs.microsoft.com/en-us/azure/key-vault/certificates/about-certificates#composition-of-a-certificate`,
    ),
  deletedButRecoverable: (type: ObjectType, name: string) =>
    new VaultError(
      [409, 'Conflict', 'ObjectIsDeletedButRecoverable'],
      `${type} ${name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the ${type.toLowerCase()} can only be recovered or purged.`,
    ),
  beingDeleted: (type: ObjectType) =>
    new VaultError(
      [409, 'Conflict', 'ObjectIsBeingDeleted'],
      `${type} is currently being deleted.`,
    ),
  beingRecovered: (type: ObjectType, name: string) =>
    new VaultError(
      [409, 'Conflict', 'ObjectIsBeingRecovered'],
      `${type} ${name} is currently being recovered and cannot be re-created; retry later.`,
    ),
  purgeProtected: (vault: string, location: string) =>
    new VaultError(
      [403, 'Forbidden'],
      `Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: ${vault};location=${location}`,
    ),
  malformedBackup: () =>
    new VaultError(
      [400, 'Malformed backup blob'],
      'Backup blob contains invalid or corrupt version.',
    ),
  foreignBackup: () => new VaultError([400, 'BadParameter'], 'Cannot decrypt backup blob'),
  tooManyVersions: (type: ObjectType, name: string, limit: number) =>
    new VaultError(
      [400, 'BadParameter'],
      `${type} ${name} has more than ${limit} versions and cannot be backed up.`,
    ),
  restoreConflict: (type: ObjectType, id: string) => {
    const thing = type.toLowerCase();
    return new VaultError(
      [409, 'Conflict'],
      `There was a conflict restoring the ${thing} '${id}'. This can happen if either: a second ${thing} with the same name was created after the first ${thing} was deleted; thus trying to restore a ${thing} whose name is already in use. To fix this, rename the second ${thing} to something else so that the restore works. The second probable cause of this exception is when multiple operations are performed in parallel against the ${thing}. To avoid this error, perform operations against a ${thing} in a sequential manner.`,
    );
  },

  requiredProperty: (property: string) =>
    new VaultError([400, 'BadParameter'], `Property '${property}' is required.\r\n`),
  notBase64url: (property: string) =>
    new VaultError(
      [400, 'BadParameter'],
      `Content of '${property}' is not base64url.\r\nProperty '${property}' is required.\r\n`,
    ),
  keyExpired: (operation: string) =>
    new VaultError(
      [403, 'Forbidden', 'KeyExpired'],
      `Operation ${operation} is not allowed on an expired key.`,
    ),
  keyNotYetValid: (operation: string) =>
    new VaultError(
      [403, 'Forbidden', 'KeyNotYetValid'],
      `Operation ${operation} is not allowed on a key that is not yet valid.`,
    ),
  keyOperationForbidden: (operation: string) =>
    new VaultError(
      [403, 'Forbidden', 'KeyOperationForbidden'],
      `Operation ${operation} is not permitted on this key.`,
    ),
  invalidLength: (property: string, bytes: number, algorithm: string, expected: number) =>
    new VaultError(
      [400, 'BadParameter'],
      `Invalid length of '${property}': ${bytes} bytes. ${algorithm} requires ${expected} bytes, encoded with base64url.`,
    ),
  unsupportedKeySize: (size: number, supported: readonly number[]) =>
    new VaultError(
      [400, 'BadParameter', 'KeySizeNotSupported'],
      `Unsupported key size (${size}). Supported sizes are [${supported.join(', ')}]`,
    ),
  incompatible: (
    purpose: 'signing' | 'encryption',
    key: { readonly kid: string; readonly has: string },
    algorithm: { readonly name: string; readonly needs: string },
  ) =>
    new VaultError(
      [400, 'BadParameter'],
      `Key and ${purpose} algorithm are incompatible. Key ${key.kid} ${key.has}, and algorithm '${algorithm.name}' can only be used with ${algorithm.needs}.`,
    ),
  attestationRefused: () =>
    new VaultError(
      [403, 'Forbidden', 'AccessDenied'],
      'Target environment attestation statement cannot be verified.',
    ),

  readOnly: (operation: string) =>
    new VaultError(
      [503, 'ServiceUnavailable'],
      `Operation "${operation}" is unavailable: the service is currently in a read-only state.`,
    ),
  internal: () =>
    new VaultError([500, 'InternalServerError'], 'The emulator failed; its output says why.'),
};

function challenged(challenge: string): Readonly<Record<string, string>> {
  return { 'www-authenticate': challenge };
}
