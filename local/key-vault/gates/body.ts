import { errors } from '../errors.ts';
import type { Exchange, Gate } from '../exchange.ts';

const maxBytes = 1024 * 1024;

/** What was sent along. Even of what will be refused, lest the rest is taken for the next request. */
export const bodyGate: Gate = (exchange) => {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } =
    exchange.request.headers;
  return length === '0' && encoding === undefined ? null : readBody(exchange);
};

async function readBody(exchange: Exchange): Promise<null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of exchange.request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Read to the end all the same: leaving the loop would close the socket before the refusal is sent.
    if (bytes <= maxBytes) chunks.push(chunk);
  }
  if (bytes > maxBytes) throw errors.bodyTooLarge(maxBytes);
  exchange.body = Buffer.concat(chunks).toString('utf8');
  return null;
}
