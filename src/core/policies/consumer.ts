import { z } from 'zod';

/** Ends up in document ids and message ids, hence the narrow alphabet. */
const consumerId = z.string().regex(/^[a-z0-9-]{1,40}$/, {
  error: 'must be 1 to 40 of a-z, 0-9 and hyphen',
});

const webhookUrl = z
  .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
  .max(2000)
  .refine((url) => !hasCredentials(url), { error: 'must not contain a user name or password' });

function hasCredentials(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed !== null && (parsed.username !== '' || parsed.password !== '');
}

/**
 * Told by an HTTP POST. Only hosts on the service's own list are called, whatever a policy says,
 * and only secrets named `webhook-…` sign: a policy writer cannot have other secrets used.
 */
export const WebhookConsumer = z.strictObject({
  kind: z.literal('webhook'),
  id: consumerId,
  url: webhookUrl,
  signingSecret: z.strictObject({
    vault: z.string().min(1).max(64),
    name: z.string().regex(/^webhook-[A-Za-z0-9-]{1,119}$/, {
      error: 'must be a secret name that starts with webhook-',
    }),
  }),
});
export type WebhookConsumer = z.output<typeof WebhookConsumer>;

/** Who must learn of a new version, as a policy says it; one member a kind. */
export const Consumer = z.discriminatedUnion('kind', [WebhookConsumer]);
export type Consumer = z.output<typeof Consumer>;
