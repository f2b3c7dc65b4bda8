import '../reflect-metadata.ts';
import {
  createHmac,
  createPrivateKey,
  hash,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import {
  ContentInfo,
  EncryptedContent,
  EncryptedContentInfo,
  id_data,
  id_encryptedData,
} from '@peculiar/asn1-cms';
import {
  AuthenticatedSafe,
  CertBag,
  id_certBag,
  id_keyBag,
  id_pkcs8ShroudedKeyBag,
  id_x509Certificate,
  MacData,
  PFX,
  PKCS8ShroudedKeyBag,
  PKCS12Attribute,
  SafeBag,
  SafeContents,
} from '@peculiar/asn1-pfx';
import { EncryptedData as EncryptedKey } from '@peculiar/asn1-pkcs8';
import { DigestInfo } from '@peculiar/asn1-rsa';
import {
  AsnConvert,
  AsnProp,
  AsnPropTypes,
  AsnType,
  AsnTypeTypes,
  OctetString,
} from '@peculiar/asn1-schema';
import { AlgorithmIdentifier } from '@peculiar/asn1-x509';
import {
  decrypt,
  deriveKey,
  deriveKeyInTurns,
  digestOf,
  encrypt,
  IterationBudget,
  type Password,
  passwordForms,
} from './password-encryption.ts';

// PKCS#12 files (RFC 7292).

export type PfxContent = {
  readonly keys: readonly KeyObject[];
  /** DER, in the order of the file. */
  readonly certificates: readonly Buffer[];
};

/** With what the parts of a file are opened. */
type Lock = { readonly password: Password; readonly budget: IterationBudget };

// As Windows writes them.
const iterations = 2000;
const localKeyIdOid = '1.2.840.113549.1.9.21';
const sha1Oid = '1.3.14.3.2.26';
const maxDepth = 4;
const idSafeContents = '1.2.840.113549.1.12.10.1.6';

class EncryptedData {
  version = 0;
  content = new EncryptedContentInfo();
}
AsnType({ type: AsnTypeTypes.Sequence })(EncryptedData);
AsnProp({ type: AsnPropTypes.Integer })(EncryptedData.prototype, 'version');
AsnProp({ type: EncryptedContentInfo })(EncryptedData.prototype, 'content');

/** @throws any error for what is no PFX file, is broken, or does not open with the password */
export async function readPfx(der: Uint8Array, password: string): Promise<PfxContent> {
  const pfx = AsnConvert.parse(der, PFX);
  if (pfx.authSafe.contentType !== id_data) throw new Error('PFX: not protected by a password');
  const safe = bytesOf(AsnConvert.parse(pfx.authSafe.content, OctetString));
  const budget = new IterationBudget();
  const lock = { password: await formOf(pfx, safe, { password, budget }), budget };
  const bags: SafeBag[] = [];
  for (const info of AsnConvert.parse(safe, AuthenticatedSafe)) {
    bags.push(...bagsOf(await contentOf(info, lock)));
  }
  const keys: KeyObject[] = [];
  for (const bag of bags) keys.push(...(await keyOf(bag, lock)));
  return { keys, certificates: bags.flatMap(certificateOf) };
}

/**
 * A PFX file with an empty password: the certificates in their order and, unless it is `null`, the key, which is tied
 * to the certificate whose place is given.
 */
export function writePfx(
  certificates: readonly Buffer[],
  key: { readonly privateKey: KeyObject; readonly certificateIndex: number } | null,
): Buffer {
  const [password] = passwordForms('') as readonly [Password];
  const tie = (index: number): PKCS12Attribute[] =>
    index === key?.certificateIndex ? [localKeyId(certificates[index])] : [];
  const certificateBags = certificates.map((der, index) =>
    safeBag(
      id_certBag,
      new CertBag({ certId: id_x509Certificate, certValue: octets(der) }),
      tie(index),
    ),
  );
  const keyBags =
    key === null
      ? []
      : [
          safeBag(
            id_pkcs8ShroudedKeyBag,
            shrouded(key.privateKey, password),
            tie(key.certificateIndex),
          ),
        ];
  const safe = AsnConvert.serialize(
    new AuthenticatedSafe([
      encryptedContent(certificateBags, password),
      ...(keyBags.length === 0 ? [] : [plainContent(new SafeContents(keyBags))]),
    ]),
  );
  const pfx = new PFX({
    version: 3,
    authSafe: new ContentInfo({ contentType: id_data, content: octets(safe) }),
    macData: macOf(new Uint8Array(safe), password),
  });
  return Buffer.from(AsnConvert.serialize(pfx));
}

/** A PKCS#8 key. @throws any error for what is none */
export function readKey(der: Buffer): KeyObject {
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

/** An encrypted PKCS#8 key. @throws any error for what is none, or does not open with the password */
export function readEncryptedKey(der: Buffer, password: string): Promise<KeyObject> {
  const [form] = passwordForms(password) as readonly [Password];
  return unshrouded(der, { password: form, budget: new IterationBudget() });
}

/** The form of the password with which the file was protected. */
async function formOf(
  pfx: PFX,
  safe: Uint8Array,
  { password, budget }: { readonly password: string; readonly budget: IterationBudget },
): Promise<Password> {
  for (const form of passwordForms(password)) {
    if (await isAuthentic(pfx, safe, { password: form, budget })) return form;
  }
  throw new Error('PFX: wrong password, or altered');
}

async function isAuthentic(
  { macData }: PFX,
  safe: Uint8Array,
  { password, budget }: Lock,
): Promise<boolean> {
  // A file without a MAC proves its password by being decrypted; the parser leaves an empty one for it.
  if (macData.mac.digestAlgorithm.algorithm === '') return true;
  const digest = digestOf(macData.mac.digestAlgorithm.algorithm);
  if (digest === null) throw new Error('PFX: unknown kind of MAC');
  const salt = bytesOf(macData.macSalt);
  const size = hash(digest, '', 'buffer').length;
  const { iterations } = macData;
  budget.spend(iterations);
  const key = await deriveKeyInTurns({ digest, salt, iterations }, password, 'mac', size);
  const mac = createHmac(digest, key).update(safe).digest();
  const expected = bytesOf(macData.mac.digest);
  return mac.length === expected.length && timingSafeEqual(mac, expected);
}

async function contentOf(info: ContentInfo, lock: Lock): Promise<Uint8Array> {
  if (info.contentType === id_data) return bytesOf(AsnConvert.parse(info.content, OctetString));
  if (info.contentType !== id_encryptedData) throw new Error('PFX: unknown kind of content');
  const { contentEncryptionAlgorithm, encryptedContent } = AsnConvert.parse(
    info.content,
    EncryptedData,
  ).content;
  const parts = encryptedContent?.constructedValue ?? [
    encryptedContent?.value ?? new OctetString(),
  ];
  const data = Buffer.concat(parts.map(bytesOf));
  return decrypt(contentEncryptionAlgorithm, data, lock.password, lock.budget);
}

/** Bags may hold bags. */
function bagsOf(contents: Uint8Array | ArrayBuffer, depth = 0): SafeBag[] {
  if (depth > maxDepth) throw new Error('PFX: too many bags in bags');
  return [...AsnConvert.parse(contents, SafeContents)].flatMap((bag) =>
    bag.bagId === idSafeContents ? bagsOf(bag.bagValue, depth + 1) : [bag],
  );
}

async function keyOf({ bagId, bagValue }: SafeBag, lock: Lock): Promise<KeyObject[]> {
  if (bagId === id_keyBag) return [readKey(Buffer.from(bagValue))];
  return bagId === id_pkcs8ShroudedKeyBag ? [await unshrouded(bagValue, lock)] : [];
}

function certificateOf({ bagId, bagValue }: SafeBag): Buffer[] {
  if (bagId !== id_certBag) return [];
  const { certId, certValue } = AsnConvert.parse(bagValue, CertBag);
  if (certId !== id_x509Certificate) return [];
  return [Buffer.from(AsnConvert.parse(certValue, OctetString).buffer)];
}

async function unshrouded(
  der: Uint8Array | ArrayBuffer,
  { password, budget }: Lock,
): Promise<KeyObject> {
  const { encryptionAlgorithm, encryptedData } = AsnConvert.parse(der, PKCS8ShroudedKeyBag);
  return readKey(await decrypt(encryptionAlgorithm, bytesOf(encryptedData), password, budget));
}

function shrouded(privateKey: KeyObject, password: Password): PKCS8ShroudedKeyBag {
  const clear = privateKey.export({ type: 'pkcs8', format: 'der' });
  const { algorithm, data } = encrypt(clear, password, iterations);
  return new PKCS8ShroudedKeyBag({
    encryptionAlgorithm: algorithm,
    encryptedData: new EncryptedKey(data),
  });
}

function safeBag(bagId: string, value: object, bagAttributes: PKCS12Attribute[]): SafeBag {
  return new SafeBag({
    bagId,
    bagValue: AsnConvert.serialize(value),
    ...(bagAttributes.length === 0 ? {} : { bagAttributes }),
  });
}

function localKeyId(certificate: Buffer | undefined): PKCS12Attribute {
  const id = hash('sha1', certificate ?? '', 'buffer');
  // Its constructor forgets what it is given (asn1-pfx 2.11.1).
  return Object.assign(new PKCS12Attribute(), { attrId: localKeyIdOid, attrValues: [octets(id)] });
}

function plainContent(contents: SafeContents): ContentInfo {
  return new ContentInfo({ contentType: id_data, content: octets(AsnConvert.serialize(contents)) });
}

function encryptedContent(bags: SafeBag[], password: Password): ContentInfo {
  const clear = AsnConvert.serialize(new SafeContents(bags));
  const { algorithm, data } = encrypt(new Uint8Array(clear), password, iterations);
  const content = new EncryptedContentInfo({
    contentType: id_data,
    contentEncryptionAlgorithm: algorithm,
    encryptedContent: new EncryptedContent({ value: new OctetString(data) }),
  });
  return new ContentInfo({
    contentType: id_encryptedData,
    content: AsnConvert.serialize(Object.assign(new EncryptedData(), { content })),
  });
}

function macOf(safe: Uint8Array, password: Password): MacData {
  const salt = randomBytes(8);
  const key = deriveKey({ digest: 'sha1', salt, iterations }, password, 'mac', 20);
  const digest = createHmac('sha1', key).update(safe).digest();
  return new MacData({
    mac: new DigestInfo({
      digestAlgorithm: new AlgorithmIdentifier({ algorithm: sha1Oid, parameters: null }),
      digest: new OctetString(digest),
    }),
    macSalt: new OctetString(salt),
    iterations,
  });
}

/** The bytes as an OCTET STRING (DER). */
function octets(bytes: Uint8Array | ArrayBuffer): ArrayBuffer {
  return AsnConvert.serialize(new OctetString(bytes));
}

function bytesOf(text: OctetString): Uint8Array {
  return new Uint8Array(text.buffer);
}
