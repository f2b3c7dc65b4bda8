import { connect, createServer, type Socket } from 'node:net';
import { listenOn, type Recorder, type ServiceProxy } from './recording-proxy.ts';

const sslRequest = 80_877_103;
const silenceMs = 200;

/** One thing the frontend says: a message, or the messages of an extended query up to Sync. */
interface Unit {
  readonly name: string;
  readonly sql: string;
  readonly bytes: Buffer;
}

/**
 * Stands before PostgreSQL and shows each message of the frontend to `recorder`. No TLS: whoever
 * asks for it is answered by the server behind, which has none.
 */
export async function startPostgresProxy(options: {
  readonly recorder: Recorder;
  readonly port: () => number;
}): Promise<ServiceProxy> {
  const server = createServer((client) => relay(client, options));
  return listenOn(server);
}

function relay(
  client: Socket,
  { recorder, port }: { readonly recorder: Recorder; readonly port: () => number },
): void {
  const backend = connect(port(), '127.0.0.1');
  const answers = new Answers(client);
  const close = () => {
    client.destroy();
    backend.destroy();
    answers.end();
  };
  for (const socket of [client, backend]) {
    socket.setNoDelay(true);
    socket.on('error', close);
    socket.on('close', close);
  }
  backend.on('data', (chunk: Buffer) => answers.take(chunk));
  const frontend = new Frontend();
  let queue = Promise.resolve();
  const pass = async (unit: Unit) => {
    const { name, sql, bytes } = unit;
    const call = recorder.see({
      ...{ service: 'postgres', method: name, path: sql || name, body: '', headers: {} },
      query: new URLSearchParams(),
    });
    const verdict = await recorder.enter(call);
    if (verdict === 'drop') return close();
    if (verdict === 'pass') return void backend.write(bytes);
    const answered = answers.hold();
    backend.write(bytes);
    await answered;
    if ((await recorder.leave(call)) === 'drop') return close();
    answers.release();
  };
  client.on('data', (chunk: Buffer) => {
    for (const unit of frontend.take(chunk)) queue = queue.then(() => pass(unit)).catch(close);
  });
}

const names: Readonly<Record<string, string>> = { p: 'Password', Q: 'Query', X: 'Terminate' };

/** Cuts the frontend's bytes into units. */
class Frontend {
  #rest: Buffer = Buffer.alloc(0);
  #hasStarted = false;
  #extended: Buffer[] = [];
  #sql = '';

  take(chunk: Buffer): Unit[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const units: Unit[] = [];
    for (let unit = this.#next(); unit !== null; unit = this.#next()) {
      if (unit !== 'more') units.push(unit);
    }
    return units;
  }

  #next(): Unit | 'more' | null {
    const typed = this.#hasStarted ? 1 : 0;
    if (this.#rest.length < typed + 4) return null;
    const length = typed + this.#rest.readInt32BE(typed);
    if (this.#rest.length < length) return null;
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return this.#hasStarted ? this.#message(bytes) : this.#opening(bytes);
  }

  #opening(bytes: Buffer): Unit {
    const isSsl = bytes.readInt32BE(4) === sslRequest;
    this.#hasStarted = !isSsl;
    return { name: isSsl ? 'SSLRequest' : 'Startup', sql: '', bytes };
  }

  #message(bytes: Buffer): Unit | 'more' {
    const type = String.fromCharCode(bytes[0] ?? 0);
    const name = names[type];
    if (name !== undefined) {
      const sql = type === 'Q' ? bytes.subarray(5, -1).toString('utf8') : '';
      return { name, sql, bytes };
    }
    if (type === 'P') this.#sql = bytes.subarray(5).toString('utf8').replaceAll('\0', ' ').trim();
    this.#extended.push(bytes);
    if (type !== 'S') return 'more';
    const unit = { name: 'Extended', sql: this.#sql, bytes: Buffer.concat(this.#extended) };
    this.#extended = [];
    return unit;
  }
}

/** The backend's bytes: passed on at once, or held until the server has said all it has to say. */
class Answers {
  readonly #client: Socket;
  #held: Buffer[] | null = null;
  #rest: Buffer = Buffer.alloc(0);
  #resolve: (() => void) | null = null;
  #silence: NodeJS.Timeout | undefined;

  constructor(client: Socket) {
    this.#client = client;
  }

  take(chunk: Buffer): void {
    if (this.#held === null) {
      this.#client.write(chunk);
      return;
    }
    this.#held.push(chunk);
    this.#rest = Buffer.concat([this.#rest, chunk]);
    if (this.#isAnswered()) this.end();
    else this.#await();
  }

  /** From now on everything is held; resolves when the answer is whole. */
  hold(): Promise<void> {
    this.#held = [];
    this.#rest = Buffer.alloc(0);
    const answered = new Promise<void>((resolve) => {
      this.#resolve = resolve;
    });
    this.#await();
    return answered;
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const chunk of held) this.#client.write(chunk);
  }

  end(): void {
    clearTimeout(this.#silence);
    this.#resolve?.();
    this.#resolve = null;
  }

  #await(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.end(), silenceMs);
  }

  /** ReadyForQuery, or a request for authentication, at the end of what has come. */
  #isAnswered(): boolean {
    while (this.#rest.length >= 5) {
      const type = String.fromCharCode(this.#rest[0] ?? 0);
      const length = 1 + this.#rest.readInt32BE(1);
      if (this.#rest.length < length) return false;
      const asks = type === 'R' && ![0, 12].includes(this.#rest.readInt32BE(5));
      this.#rest = this.#rest.subarray(length);
      if (type === 'Z' || asks) return true;
    }
    return false;
  }
}
