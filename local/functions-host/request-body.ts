import type { IncomingMessage } from 'node:http';
import { Readable, Transform } from 'node:stream';

/** The body of a request, read once, in one of two ways. */
export interface RequestBody {
  /** No Content-Length: its end shows only when it has come. */
  readonly isChunked: boolean;
  /** All of it. @throws BodyTooLong */
  read(): Promise<Buffer>;
  /** As it comes; ends in `BodyTooLong` where it grows too long. */
  stream(): Readable;
}

export class BodyTooLong extends Error {}

const defaultLimit = 104_857_600;

export function bodyOf(request: IncomingMessage): RequestBody {
  const limit = Number(process.env['FUNCTIONS_REQUEST_BODY_SIZE_LIMIT'] ?? defaultLimit);
  const declared = request.headers['content-length'];
  const stream = () => {
    if (Number(declared ?? 0) > limit) throw new BodyTooLong();
    return request.pipe(limiter(limit));
  };
  return {
    isChunked: declared === undefined && request.headers['transfer-encoding'] !== undefined,
    stream,
    async read() {
      const chunks: Buffer[] = [];
      for await (const chunk of stream()) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    },
  };
}

/** A body the host itself has made. */
export function bodyFrom(bytes: Buffer): RequestBody {
  return { isChunked: false, read: async () => bytes, stream: () => Readable.from([bytes]) };
}

function limiter(limit: number): Transform {
  let size = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size > limit) done(new BodyTooLong());
      else done(null, chunk);
    },
  });
}
