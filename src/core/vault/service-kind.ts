import { AppError } from '../errors.ts';

/** What answers at a URL; `unknown` for hosts that are none of Azure's, which are asked and not judged. */
export type ServiceKind = 'vault' | 'managed-hsm' | 'unknown';

const vaultHosts = /\.vault\.(azure\.(net|cn)|usgovcloudapi\.net|microsoftazure\.de)$/;
const hsmHosts =
  /\.managedhsm\.(azure\.(net|cn)|usgovcloudapi\.net|microsoftazure\.de|chinacloudapi\.cn)$/;

export function serviceKind(url: string): ServiceKind {
  const { hostname } = new URL(url);
  if (hsmHosts.test(hostname)) return 'managed-hsm';
  return vaultHosts.test(hostname) ? 'vault' : 'unknown';
}

/**
 * A service each of whose methods fails with `invalid_input`: for what a Managed HSM does not have.
 *
 * @param what the kind of object: `secrets`
 */
export function absentService<Service extends object>(alias: string, what: string): Service {
  const refusal = (method: string): AppError =>
    new AppError('invalid_input', {
      detail: `vault: ${alias} is a Managed HSM, which keeps keys only: no ${method} of ${what}; use a vault`,
    });
  const refuse = (method: string) =>
    // Lists give no promise.
    method.startsWith('list')
      ? () => {
          throw refusal(method);
        }
      : async () => {
          throw refusal(method);
        };
  return new Proxy({} as Service, {
    // Not `then`: the service is no promise.
    get: (_, member) =>
      typeof member === 'symbol' || member === 'then' ? undefined : refuse(member),
  });
}
