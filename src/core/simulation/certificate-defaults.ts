import type { KeyObject } from 'node:crypto';
import { curveSizes } from '../vault/certificate-policy.ts';
import type { CertificatePolicy, NewCertificatePolicy } from '../vault/certificates.ts';
import { familyOf } from '../vault/key-algorithms.ts';
import { type KeyCurve, keyCurves } from '../vault/keys.ts';
import { publicKeyOf } from './key-material.ts';

// What a vault fills in where a policy says nothing.

const serverAndClient = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'];

export function completePolicy(policy: NewCertificatePolicy): CertificatePolicy {
  const { keyType = 'RSA' } = policy;
  const issuer = canonicalIssuer(policy.issuer);
  const isEc = familyOf(keyType) === 'EC';
  return {
    subject: '',
    ...{ dnsNames: [], emails: [], userPrincipalNames: [], uris: [], ipAddresses: [] },
    exportable: !keyType.endsWith('-HSM'),
    reuseKey: false,
    contentType: 'application/x-pkcs12',
    validityInMonths: 12,
    // A curve cannot wrap keys.
    keyUsage: isEc ? ['digitalSignature'] : ['digitalSignature', 'keyEncipherment'],
    enhancedKeyUsage: serverAndClient,
    lifetimeActions: [
      { action: issuer === 'Unknown' ? 'EmailContacts' : 'AutoRenew', lifetimePercentage: 80 },
    ],
    ...policy,
    ...{ issuer, keyType },
    ...completeSize({ ...policy, keyType }),
  };
}

/** Size and curve of the key: each follows from the other. */
export function completeSize({
  keyType,
  keySize = null,
  keyCurve = null,
}: Pick<CertificatePolicy, 'keyType'> &
  Partial<Pick<CertificatePolicy, 'keySize' | 'keyCurve'>>): Pick<
  CertificatePolicy,
  'keySize' | 'keyCurve'
> {
  if (familyOf(keyType) === 'RSA') return { keySize: keySize ?? 2048, keyCurve: null };
  const curve =
    keyCurve ?? keyCurves.find((each): each is KeyCurve => curveSizes[each] === keySize) ?? 'P-256';
  return { keySize: curveSizes[curve], keyCurve: curve };
}

/** What a policy says of this key. */
export function keyPolicyOf(
  key: KeyObject,
): Pick<CertificatePolicy, 'keyType' | 'keySize' | 'keyCurve'> {
  const publicKey = publicKeyOf(key);
  if (publicKey?.kty === 'EC') {
    return { keyType: 'EC', ...completeSize({ keyType: 'EC', keyCurve: publicKey.crv }) };
  }
  const keySize = key.asymmetricKeyDetails?.modulusLength ?? null;
  return { keyType: 'RSA', keySize, keyCurve: null };
}

export function canonicalIssuer(name: string): string {
  return ['Self', 'Unknown'].find((known) => known.toLowerCase() === name.toLowerCase()) ?? name;
}
