import { z } from 'zod';

const DelaySeconds = z
  .number()
  .min(0)
  .max(10 * 366 * 86_400);

/** What an issuer does with the requests it gets. */
const IssuerBehaviour = z.strictObject({
  /** Default: the vault's. */
  delaySeconds: DelaySeconds.optional(),
  /** It refuses, and so says the operation. Default: it issues. */
  failure: z
    .strictObject({
      code: z.string().min(1).max(200).default('Certificate issuer error'),
      message: z.string().max(2000).default('The issuer refused the request.'),
    })
    .optional(),
});
export type IssuerBehaviour = z.output<typeof IssuerBehaviour>;

/** How certificates come to be issued in a vault. */
export const Issuance = z.strictObject({
  /** From the request to the certificate, or to the refusal. The service takes some seconds. */
  delaySeconds: DelaySeconds.default(0),
  /** By the name of the issuer, `Self` among them. */
  issuers: z.record(z.string().min(1).max(127), IssuerBehaviour).default({}),
});
export type Issuance = z.output<typeof Issuance>;

/** @param issuer a name in any case */
export function behaviourOf(
  { delaySeconds, issuers }: Issuance,
  issuer: string,
): IssuerBehaviour & { readonly delaySeconds: number } {
  const wanted = issuer.toLowerCase();
  const [, behaviour] =
    Object.entries(issuers).find(([name]) => name.toLowerCase() === wanted) ?? [];
  return { ...behaviour, delaySeconds: behaviour?.delaySeconds ?? delaySeconds };
}
