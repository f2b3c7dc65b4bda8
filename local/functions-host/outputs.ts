import type { QueueClient } from '@azure/storage-queue';
import type { LoadedFunction } from './functions.ts';
import { resolveSettings } from './settings.ts';
import type { HostStorage } from './storage.ts';
import type { Binding, RpcResponse, RpcTypedData } from './worker/protocol.ts';

/** Sends what a function returned through its queue output bindings. Source: azure-functions-host, FunctionBinding. */
export function createOutputs(storage: HostStorage, encoding: 'base64' | 'none') {
  return async (fn: LoadedFunction, response: RpcResponse): Promise<void> => {
    const values = namedOutputs(fn, response);
    for (const [name, binding] of Object.entries(fn.metadata.bindings)) {
      if (binding.direction !== 'out' || binding.type.toLowerCase() !== 'queue') continue;
      const value = name === '$return' ? response.returnValue : values.get(name);
      if (value === null || value === undefined) continue;
      await send(openQueue(storage, binding), toMessages(value), encoding);
    }
  };
}

function namedOutputs(fn: LoadedFunction, response: RpcResponse): Map<string, RpcTypedData> {
  const values = new Map(response.outputData?.map(({ name, data }) => [name, data]));
  const text = response.returnValue?.json;
  if (text === undefined || fn.metadata.bindings['$return'] !== undefined) return values;
  const returned: unknown = JSON.parse(text);
  if (typeof returned !== 'object' || returned === null || Array.isArray(returned)) return values;
  for (const [name, value] of Object.entries(returned)) {
    if (!values.has(name))
      values.set(
        name,
        typeof value === 'string' ? { string: value } : { json: JSON.stringify(value) },
      );
  }
  return values;
}

function toMessages(value: RpcTypedData): readonly string[] {
  if (value.bytes !== undefined) return [Buffer.from(value.bytes).toString('utf8')];
  const text = value.json ?? value.string ?? String(value.int ?? value.double ?? '');
  const items = parseArray(text);
  if (items !== null)
    return items.map((item) => (typeof item === 'string' ? item : JSON.stringify(item, null, 2)));
  return [value.json === undefined ? text : JSON.stringify(JSON.parse(text), null, 2)];
}

// A string that looks like a JSON array is split too, as the real host does.
function parseArray(text: string): readonly unknown[] | null {
  if (!text.trimStart().startsWith('[')) return null;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function openQueue(storage: HostStorage, binding: Binding): QueueClient {
  const name = resolveSettings(String(binding['queueName']), process.env).toLowerCase();
  const connection = typeof binding['connection'] === 'string' ? binding['connection'] : undefined;
  return storage.queues(connection, 'work').getQueueClient(name);
}

async function send(
  queue: QueueClient,
  messages: readonly string[],
  encoding: 'base64' | 'none',
): Promise<void> {
  await queue.createIfNotExists();
  for (const text of messages) {
    await queue.sendMessage(encoding === 'base64' ? Buffer.from(text).toString('base64') : text);
  }
}
