/** The storage ports in this process's memory: for tests, and for one process that may forget. */
import { AppError } from '../errors.ts';
import { encodeKey, parseCursor } from './keys.ts';
import {
  bodyText,
  checkAppend,
  checkLogName,
  checkTransaction,
  messageText,
  pageSize,
} from './limits.ts';
import type {
  AppendLog,
  Condition,
  DocumentStore,
  JsonObject,
  StoredDocument,
  WorkQueue,
} from './ports.ts';

interface Row {
  readonly text: string;
  readonly etag: string;
}

/** Documents in memory; bodies are copied in and out. */
export function memoryDocuments(): DocumentStore {
  const partitions = new Map<string, Map<string, Row>>();
  let writes = 0;

  const rowsOf = (partition: string): Map<string, Row> => {
    const key = encodeKey(partition);
    const rows = partitions.get(key) ?? new Map<string, Row>();
    partitions.set(key, rows);
    return rows;
  };
  const write = (rows: Map<string, Row>, id: string, text: string): string => {
    const etag = `"${++writes}"`;
    rows.set(id, { text, etag });
    return etag;
  };

  return {
    get: async (partition, id) => {
      encodeKey(id);
      const row = rowsOf(partition).get(id);
      return row === undefined ? null : document(id, row);
    },
    put: async (partition, id, body, when) => {
      encodeKey(id);
      const text = bodyText(body);
      const rows = rowsOf(partition);
      if (!holds(rows.get(id), when)) throw conflict(partition, id);
      return write(rows, id, text);
    },
    delete: async (partition, id, when) => {
      encodeKey(id);
      const rows = rowsOf(partition);
      if (rows.has(id) && !holds(rows.get(id), when)) throw conflict(partition, id);
      rows.delete(id);
    },
    list: async (partition, query = {}) => {
      const { prefix = '', cursor = null } = query;
      const after = cursor === null ? '' : parseCursor(cursor);
      const limit = pageSize(query.limit);
      const matching = [...rowsOf(partition)]
        .filter(([id]) => id.startsWith(prefix) && id > after)
        .sort(([left], [right]) => byCodeUnit(left, right));
      const documents = matching.slice(0, limit).map(([id, row]) => document(id, row));
      const last = documents.at(-1);
      const more = matching.length > limit && last !== undefined;
      return { documents, cursor: more ? encodeKey(last.id) : null };
    },
    transact: async (partition, given) => {
      checkTransaction(given);
      const rows = rowsOf(partition);
      for (const each of given) {
        encodeKey(each.id);
        if (!holds(rows.get(each.id), each.when)) throw conflict(partition, each.id);
      }
      return given.map((each) => {
        if (each.kind === 'put') return write(rows, each.id, bodyText(each.body));
        rows.delete(each.id);
        return null;
      });
    },
  };
}

/** A queue whose messages a test takes itself, oldest first; null when there is none. */
export function memoryQueue(): WorkQueue & { take(): JsonObject | null } {
  const messages: string[] = [];
  return {
    send: async (message) => {
      messages.push(messageText(message));
    },
    take: () => {
      const text = messages.shift();
      return text === undefined ? null : JSON.parse(text);
    },
  };
}

/** Append logs in memory; bytes are copied in and out. */
export function memoryLog(): AppendLog {
  const logs = new Map<string, Buffer>();
  return {
    append: async (name, position, bytes) => {
      checkAppend(name, position, bytes);
      const log = logs.get(name) ?? Buffer.alloc(0);
      const end = position + bytes.byteLength;
      if (position === log.length) {
        logs.set(name, Buffer.concat([log, bytes]));
      } else if (!log.subarray(position, end).equals(bytes)) {
        throw new AppError('conflict', { detail: `append ${name} at ${position}` });
      }
      return end;
    },
    read: async (name) => {
      checkLogName(name);
      const log = logs.get(name);
      if (log === undefined) throw new AppError('not_found', { detail: `read ${name}` });
      return Uint8Array.from(log);
    },
    list: async function* (prefix) {
      yield* [...logs.keys()].filter((name) => name.startsWith(prefix)).sort(byCodeUnit);
    },
  };
}

function document(id: string, row: Row): StoredDocument {
  return { id, body: JSON.parse(row.text), etag: row.etag };
}

function holds(row: Row | undefined, when: Condition): boolean {
  if (when === 'any') return true;
  return when === 'absent' ? row === undefined : row?.etag === when.etag;
}

function conflict(partition: string, id: string): AppError {
  return new AppError('conflict', { detail: `write ${partition}/${id}` });
}

/** As `<` compares strings, which is also how a table orders its keys. */
function byCodeUnit(left: string, right: string): number {
  return left < right ? -1 : Number(left > right);
}
