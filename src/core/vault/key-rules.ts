/** What a vault takes as a key. Checked before anything is sent: a vault's own words come late and vague. */
import { AppError } from '../errors.ts';
import { familyOf } from './key-algorithms.ts';
import {
  type ImportedKey,
  type KeyChanges,
  type KeyType,
  keyCurves,
  keyOperations,
  keyTypes,
  type NewKey,
  type ReleaseInput,
  type RotationPolicy,
  releaseAlgorithms,
} from './keys.ts';
import { nominalDays, parsePeriod } from './period.ts';
import { checkSecretChanges } from './secret-rules.ts';
import type { ServiceKind } from './service-kind.ts';

export const rsaSizes: readonly number[] = [2048, 3072, 4096];
export const octSizes: readonly number[] = [128, 192, 256];
const maxTagLength = 256;
const maxRandomBytes = 128;
const minTriggerDays = 7;
const minExpiryDays = 28;

/**
 * @param cure what the field should be; a function where the text would cost more than the check
 * @throws AppError `invalid_input` naming `field` and the cure
 */
export function checkField(isRight: boolean, field: string, cure: string | (() => string)): void {
  if (isRight) return;
  const text = typeof cure === 'string' ? cure : cure();
  throw new AppError('invalid_input', { detail: `${field}: ${text}` });
}

/** @throws AppError `invalid_input` unless `name` is 1 to 127 letters, digits and hyphens */
export function checkKeyName(name: string): void {
  const isName = /^[0-9a-zA-Z-]{1,127}$/.test(name);
  checkField(isName, 'name', () => `use 1 to 127 letters, digits and hyphens, not ${quoted(name)}`);
}

/** @throws AppError `invalid_input` for dates, tags or operations that no vault takes */
export function checkKeyChanges({ notBefore, expiresOn, tags, operations }: KeyChanges): void {
  checkSecretChanges({
    notBefore: notBefore ?? null,
    expiresOn: expiresOn ?? null,
    ...(tags ? { tags } : {}),
  });
  for (const [name, value] of Object.entries(tags ?? {})) {
    const isShort = name.length <= maxTagLength && value.length <= maxTagLength;
    checkField(isShort, 'tags', `names and values have at most ${maxTagLength} characters`);
  }
  for (const operation of operations ?? []) {
    checkField(keyOperations.includes(operation), 'operations', oneOf(keyOperations));
  }
}

/** @throws AppError `invalid_input` for a key that a service of this kind cannot make */
export function checkNewKey(key: NewKey, service: ServiceKind): void {
  const { type, size, curve } = key;
  checkField(keyTypes.includes(type), 'type', oneOf(keyTypes));
  const family = familyOf(type);
  if (family === 'EC') {
    checkField(curve === undefined || keyCurves.includes(curve), 'curve', oneOf(keyCurves));
    checkField(size === undefined, 'size', 'EC keys have a curve instead');
  } else {
    const sizes = family === 'RSA' ? rsaSizes : octSizes;
    checkField(size === undefined || sizes.includes(size), 'size', oneOf(sizes));
    checkField(curve === undefined, 'curve', 'only EC keys have one');
  }
  checkType(type, service);
  checkReleaseTerms(key, keptType(type));
  checkKeyChanges(key);
}

/** @throws AppError `invalid_input`. The key itself is judged by `parsePrivateKey`. */
export function checkImport(key: ImportedKey, type: KeyType, service: ServiceKind): void {
  checkType(type, service);
  checkReleaseTerms(key, keptType(type, key.hardwareProtected));
  checkKeyChanges(key);
}

/** What a key becomes: symmetric ones are in an HSM, whatever they are called. */
export function keptType(type: KeyType, hardwareProtected = false): KeyType {
  if (type === 'oct') return 'oct-HSM';
  if (!hardwareProtected) return type;
  return type === 'RSA' ? 'RSA-HSM' : type === 'EC' ? 'EC-HSM' : type;
}

function checkType(type: KeyType, service: ServiceKind): void {
  // A Managed HSM takes it for oct-HSM.
  const isPossible = type !== 'oct' || service !== 'vault';
  checkField(isPossible, 'type', 'a vault keeps symmetric keys in its HSM only: use oct-HSM');
}

/** What AKV.SKR.1004 to 1006 say, one round trip earlier. */
function checkReleaseTerms(
  { exportable = false, releasePolicy }: Pick<NewKey, 'exportable' | 'releasePolicy'>,
  type: KeyType,
): void {
  const hasPolicy = releasePolicy !== undefined;
  checkField(!exportable || type.endsWith('-HSM'), 'exportable', 'only for keys in an HSM (*-HSM)');
  checkField(!exportable || hasPolicy, 'releasePolicy', 'an exportable key must have one');
  checkField(exportable || !hasPolicy, 'releasePolicy', 'only for exportable keys');
  checkField(!hasPolicy || isJsonObject(releasePolicy), 'releasePolicy', 'give UTF-8 JSON');
}

function isJsonObject(bytes: Uint8Array): boolean {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** @throws AppError `invalid_input` for a policy that the service does not take */
export function checkRotationPolicy({ expiresIn, actions }: RotationPolicy): void {
  const expiryDays = expiresIn === null ? null : daysOf('expiresIn', expiresIn);
  const lastsLong = expiryDays === null || expiryDays >= minExpiryDays;
  checkField(lastsLong, 'expiresIn', `at least ${minExpiryDays} days`);
  for (const kind of ['Rotate', 'Notify']) {
    const count = actions.filter(({ action }) => action === kind).length;
    checkField(count <= 1, 'actions', `at most one ${kind}`);
  }
  for (const action of actions) checkAction(action, expiryDays);
}

function checkAction(
  { action, timeAfterCreate, timeBeforeExpiry }: RotationPolicy['actions'][number],
  expiryDays: number | null,
): void {
  checkField(['Rotate', 'Notify'].includes(action), 'action', 'Rotate or Notify');
  const hasOne = (timeAfterCreate === undefined) !== (timeBeforeExpiry === undefined);
  checkField(hasOne, action, 'give either timeAfterCreate or timeBeforeExpiry');
  const days = daysOf(action, timeAfterCreate ?? timeBeforeExpiry ?? '');
  checkField(days >= minTriggerDays, action, `at least ${minTriggerDays} days`);
  if (action === 'Notify') {
    checkField(timeAfterCreate === undefined, action, 'give timeBeforeExpiry');
    return;
  }
  const canEnd = timeBeforeExpiry === undefined || expiryDays !== null;
  checkField(canEnd, action, 'timeBeforeExpiry needs expiresIn');
  const fits = expiryDays === null || days <= expiryDays - minTriggerDays;
  checkField(fits, action, `at least ${minTriggerDays} days after creation and before expiry`);
}

function daysOf(field: string, text: string): number {
  const period = parsePeriod(text);
  checkField(period !== null, field, 'write an ISO 8601 duration in days or more, such as P90D');
  return period === null ? 0 : nominalDays(period);
}

/** @throws AppError `invalid_input` */
export function checkRelease({ attestation, algorithm }: ReleaseInput): void {
  checkField(attestation !== '', 'attestation', 'give the token of an attestation service');
  const isKnown = algorithm === undefined || releaseAlgorithms.includes(algorithm);
  checkField(isKnown, 'algorithm', oneOf(releaseAlgorithms));
}

/** @throws AppError `invalid_input` for a count the service does not take, and for a vault that is no HSM */
export function checkRandomBytes(count: number, service: ServiceKind): void {
  checkField(service !== 'vault', 'vault', 'only a Managed HSM gives randomBytes');
  const isCount = Number.isInteger(count) && count >= 1 && count <= maxRandomBytes;
  checkField(isCount, 'count', `1 to ${maxRandomBytes}`);
}

/** `one of A, B, C` */
export function oneOf(values: readonly unknown[]): string {
  return `one of ${values.join(', ')}`;
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 130));
}
