/** What a certificate can be made from. Checked before anything is sent: a vault's own words come late and vague. */
import type { CertificatePolicy, NewCertificatePolicy } from './certificates.ts';
import { familyOf } from './key-algorithms.ts';
import { checkField, oneOf, rsaSizes } from './key-rules.ts';
import { type KeyCurve, keyCurves } from './keys.ts';

/** In the order of their bits in the extension (RFC 5280 4.2.1.3). */
export const keyUsages = [
  ...(['digitalSignature', 'nonRepudiation', 'keyEncipherment', 'dataEncipherment'] as const),
  ...(['keyAgreement', 'keyCertSign', 'cRLSign', 'encipherOnly', 'decipherOnly'] as const),
] as const;

/** Bits, as a policy says them beside the curve. */
export const curveSizes: Readonly<Record<KeyCurve, number>> = {
  'P-256': 256,
  'P-384': 384,
  'P-521': 521,
  'P-256K': 256,
};

const keyTypes: readonly CertificatePolicy['keyType'][] = ['RSA', 'RSA-HSM', 'EC', 'EC-HSM'];
const contentTypes: readonly CertificatePolicy['contentType'][] = [
  'application/x-pkcs12',
  'application/x-pem-file',
];
/** A key on a curve can do none of this. */
const rsaUsages = ['keyEncipherment', 'dataEncipherment', 'encipherOnly', 'decipherOnly'];
const nameLists = ['dnsNames', 'emails', 'userPrincipalNames', 'uris', 'ipAddresses'] as const;
const maxSubjectLength = 200;
const maxValidityMonths = 1200;
/** The service counts so many days in a month when it judges a trigger. */
const triggerDaysPerMonth = 27;

/** `old` with the changes made. Who says size, curve or another family of keys says all of them. */
export function changedPolicy(
  old: CertificatePolicy,
  changes: Partial<CertificatePolicy>,
): CertificatePolicy {
  const { keyType = old.keyType, keySize = null, keyCurve = null } = changes;
  const isSameKey =
    familyOf(keyType) === familyOf(old.keyType) && keySize === null && keyCurve === null;
  return { ...old, ...changes, ...(isSameKey ? sizeOf(old) : { keySize, keyCurve }) };
}

function sizeOf({ keySize, keyCurve }: CertificatePolicy) {
  return { keySize, keyCurve };
}

/** @throws AppError `invalid_input` naming the field of a policy that no vault takes for a new certificate */
export function checkNewPolicy(policy: NewCertificatePolicy): void {
  const { subject = '' } = policy;
  const isNamed = subject !== '' || nameLists.some((list) => (policy[list] ?? []).length > 0);
  checkField(isNamed, 'subject', 'give one, such as CN=example.org, or at least one other name');
  checkPolicy(policy);
}

/** @throws AppError `invalid_input` for what would be refused in any policy */
export function checkPolicy(policy: Partial<CertificatePolicy>): void {
  checkNames(policy);
  checkKey(policy);
  checkUsages(policy);
  checkEnd(policy);
  const { contentType } = policy;
  const isKnown = contentType === undefined || contentTypes.includes(contentType);
  checkField(isKnown, 'contentType', oneOf(contentTypes));
}

function checkNames(policy: Partial<CertificatePolicy>): void {
  const { subject = '', issuer } = policy;
  const isName = subject === '' || /^\s*[A-Za-z0-9.-]+\s*=/.test(subject);
  checkField(isName, 'subject', 'write an X.500 name such as CN=example.org, O=Example');
  const isShort = subject.length <= maxSubjectLength;
  checkField(isShort, 'subject', `at most ${maxSubjectLength} characters`);
  for (const list of nameLists) {
    const isWhole = (policy[list] ?? []).every((name) => name.trim() !== '');
    checkField(isWhole, list, 'no name is empty');
  }
  const isIssuer = issuer === undefined || /^[0-9a-zA-Z-]{1,127}$/.test(issuer);
  checkField(isIssuer, 'issuer', 'Self, Unknown, or the name of an issuer of the vault');
}

function checkKey({
  keyType = 'RSA',
  keySize = null,
  keyCurve = null,
  exportable,
}: Partial<CertificatePolicy>): void {
  checkField(keyTypes.includes(keyType), 'keyType', oneOf(keyTypes));
  const staysInside = !keyType.endsWith('-HSM') || exportable !== true;
  checkField(staysInside, 'exportable', 'false for a key in an HSM');
  if (familyOf(keyType) === 'RSA') {
    checkField(keySize === null || rsaSizes.includes(keySize), 'keySize', oneOf(rsaSizes));
    checkField(keyCurve === null, 'keyCurve', 'only EC keys have one');
    return;
  }
  checkField(keyCurve === null || keyCurves.includes(keyCurve), 'keyCurve', oneOf(keyCurves));
  const sizes = keyCurve === null ? [256, 384, 521] : [curveSizes[keyCurve]];
  checkField(keySize === null || sizes.includes(keySize), 'keySize', oneOf(sizes));
}

function checkUsages({ keyType = 'RSA', keyUsage, enhancedKeyUsage }: Partial<CertificatePolicy>) {
  const able: readonly string[] =
    familyOf(keyType) === 'RSA' ? keyUsages : keyUsages.filter((one) => !rsaUsages.includes(one));
  const isAble = (keyUsage ?? []).every((usage) => able.includes(usage));
  checkField(isAble, 'keyUsage', `a key of type ${keyType} has ${oneOf(able)}`);
  const areOids = (enhancedKeyUsage ?? []).every((oid) => /^[0-2](\.\d+)+$/.test(oid));
  checkField(areOids, 'enhancedKeyUsage', 'object identifiers such as 1.3.6.1.5.5.7.3.1');
}

function checkEnd({ validityInMonths = 12, lifetimeActions }: Partial<CertificatePolicy>): void {
  const isValidity =
    Number.isInteger(validityInMonths) &&
    validityInMonths >= 1 &&
    validityInMonths <= maxValidityMonths;
  checkField(isValidity, 'validityInMonths', `a whole number from 1 to ${maxValidityMonths}`);
  const mostDays = validityInMonths * triggerDaysPerMonth;
  for (const { action, daysBeforeExpiry, lifetimePercentage } of lifetimeActions ?? []) {
    const isAction = ['AutoRenew', 'EmailContacts'].includes(action);
    checkField(isAction, 'lifetimeActions', 'AutoRenew or EmailContacts');
    const hasOne = (daysBeforeExpiry === undefined) !== (lifetimePercentage === undefined);
    checkField(hasOne, action, 'give either daysBeforeExpiry or lifetimePercentage');
    const isIn = isWithin(lifetimePercentage ?? 1, 99) && isWithin(daysBeforeExpiry ?? 1, mostDays);
    checkField(isIn, action, `1 to 99 % of the lifetime, or 1 to ${mostDays} days before its end`);
  }
}

function isWithin(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= most;
}
