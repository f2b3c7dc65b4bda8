import { checkCertificateName } from '../vault/certificate-rules.ts';
import type { Request } from './key-vault-connection.ts';

/** A request about a certificate. @throws AppError `invalid_input` for what is not the name of one */
export function about(words: string, operation: string, name: string): Request {
  checkCertificateName(name);
  return { what: `${words} certificate ${name}`, operation, object: name, repeatable: true };
}

/** Its one try may have succeeded although no answer came. */
export function creating(words: string, operation: string, name: string): Request {
  return { ...about(words, operation, name), repeatable: false };
}
