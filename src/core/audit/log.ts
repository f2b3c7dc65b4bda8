import { randomBytes } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { AppendLog, JsonObject } from '../storage/ports.ts';
import { sealLine, segmentSeed } from './chain.ts';

/** One fact. Never holds a value; `detail` is flat and short. */
export interface AuditEntry {
  /** Stable: the same fact recorded twice, after an ambiguous failure, has the same id. */
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  /** `rotation.transition`, `secret.read`, `target.apply`, `event.skipped`, … */
  readonly action: string;
  readonly object?: string;
  readonly rotationId?: string;
  readonly correlationId?: string;
  readonly outcome?: 'intended' | 'done' | 'skipped' | 'refused' | 'failed';
  readonly detail?: Readonly<Record<string, string | number | boolean | null>>;
}

export interface Audit {
  /**
   * Durable when it resolves, in the order given, next to each other. Callers that wait at the
   * same time share one append. When it rejects the entries may or may not stand in the log: call
   * again with the same ids.
   * @throws AppError `storage_unavailable` (retryable)
   */
  append(entries: readonly AuditEntry[]): Promise<void>;
}

/** Where a writer's chain ends: what is known to stand in the log. */
interface Tail {
  readonly segment: string;
  readonly day: string;
  readonly length: number;
  readonly records: number;
  readonly seq: number;
  readonly hash: string;
}

interface Batch {
  readonly segment: string;
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly tail: Tail;
}

interface Waiting {
  readonly bodies: readonly JsonObject[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** A block of an append blob may be larger; a group this large gains nothing more. */
const groupSize = 2000;

/**
 * This process's own hash-linked part of the audit log. It lies in segments
 * `audit/YYYY/MM/DD/<time>-<writer>-<run>-<n>.jsonl`; a new one is begun after `rollAfter` records
 * (default 10,000; an append blob takes 50,000 blocks) and each UTC day. Nothing is called before
 * the first append. `writer` names the process: `[A-Za-z0-9._-]{1,64}`.
 */
export function openAudit(
  log: AppendLog,
  options: { readonly writer: string; readonly clock: Clock; readonly rollAfter?: number },
): Audit {
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(options.writer)) {
    throw new AppError('bad_configuration', { detail: `audit writer ${options.writer}` });
  }
  const chain = openChain(log, { rollAfter: 10_000, ...options });
  let waiting: Waiting[] = [];
  let draining = false;

  async function drain(): Promise<void> {
    await Promise.resolve(); // callers of the same tick come along
    while (waiting.length > 0) {
      const group = takeGroup(waiting);
      waiting = waiting.slice(group.length);
      try {
        await chain.write(group.flatMap((one) => one.bodies));
        for (const one of group) one.resolve();
      } catch (error) {
        for (const one of group) one.reject(error);
      }
    }
    draining = false;
  }

  return {
    async append(entries) {
      if (entries.length === 0) return;
      const bodies = entries.map(entryBody);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      waiting.push({ bodies, resolve, reject });
      if (!draining) {
        draining = true;
        void drain();
      }
      await promise;
    },
  };
}

/** The longest run of callers, at least one, whose entries make no more than a group. */
function takeGroup(waiting: readonly Waiting[]): readonly Waiting[] {
  let size = 0;
  const end = waiting.findIndex((one, index) => {
    size += one.bodies.length;
    return index > 0 && size > groupSize;
  });
  return end === -1 ? waiting : waiting.slice(0, end);
}

function openChain(
  log: AppendLog,
  { writer, clock, rollAfter }: { writer: string; clock: Clock; rollAfter: number },
): { write(bodies: readonly JsonObject[]): Promise<void> } {
  const run = randomBytes(4).toString('hex');
  let opened = 0;
  let tail: Tail | null = null;
  /** Set when the segment may not be gone on with: other bytes stand there, or it takes no more. */
  let closed = false;
  /** Bytes whose append was not answered: they go first, at their place, before anything else. */
  let unanswered: Batch | null = null;

  function compose(bodies: readonly JsonObject[]): Batch {
    const now = clock.now().toISOString();
    const day = now.slice(0, 10);
    const goOn = tail !== null && !closed && tail.records < rollAfter && tail.day === day;
    if (tail !== null && goOn) return sealBatch(bodies, tail);
    const name = `${now.slice(11, 23).replaceAll(/\D/g, '')}-${writer}-${run}-${String(++opened).padStart(4, '0')}`;
    const segment = `audit/${day.replaceAll('-', '/')}/${name}.jsonl`;
    const after = tail === null ? null : { segment: tail.segment, seq: tail.seq, hash: tail.hash };
    const seq = tail?.seq ?? -1;
    const hash = segmentSeed(segment, writer);
    const empty = { segment, day, length: 0, records: -1, seq, hash };
    return sealBatch([{ open: { segment, writer, after } }, ...bodies], empty);
  }

  async function send(batch: Batch): Promise<void> {
    try {
      await log.append(batch.segment, batch.position, batch.bytes);
    } catch (error) {
      const final = error instanceof AppError && !error.retryable;
      unanswered = final ? null : batch;
      closed ||= final;
      throw error;
    }
    unanswered = null;
    closed = false;
    tail = batch.tail;
  }

  return {
    async write(bodies) {
      try {
        if (unanswered !== null) await send(unanswered);
        await send(compose(bodies));
      } catch (error) {
        // Somebody wrote into our segment: leave it for the verifier to find, begin another one.
        if (!closed || unanswered !== null) throw error;
        await send(compose(bodies));
      }
    },
  };
}

function sealBatch(bodies: readonly JsonObject[], from: Tail): Batch {
  let { seq, hash } = from;
  const lines = bodies.map((body) => {
    const line = sealLine(body, { seq: ++seq, prev: hash });
    hash = line.hash;
    return line.text;
  });
  const bytes = Buffer.from(lines.join(''));
  const length = from.length + bytes.length;
  const records = from.records + lines.length;
  const tail = { segment: from.segment, day: from.day, length, records, seq, hash };
  return { segment: from.segment, position: from.length, bytes, tail };
}

function entryBody(entry: AuditEntry): JsonObject {
  const { at, detail, ...rest } = entry;
  return { ...rest, at: at.toISOString(), ...(detail === undefined ? {} : { detail }) };
}
