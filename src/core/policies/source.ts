import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.ts';
import type { DocumentStore, StoredDocument } from '../storage/ports.ts';
import type { DocumentSource, RawDocument } from './catalog.ts';

/**
 * Every `*.json` of `folder/policies` and `folder/targets`; either may be missing and holds none then.
 * A `folder` that is not there at all is a mistyped setting. @throws AppError `bad_configuration`
 */
export function folderSource(folder: string): DocumentSource {
  return {
    read: async () => {
      await checkFolder(folder);
      return {
        policies: await readFolder(join(folder, 'policies')),
        targets: await readFolder(join(folder, 'targets')),
      };
    },
  };
}

/** The documents of the partitions `policies` and `targets`. */
export function storageSource(store: DocumentStore): DocumentSource {
  return {
    read: async () => ({
      policies: (await readPartition(store, 'policies')).map(raw),
      targets: (await readPartition(store, 'targets')).map(raw),
    }),
  };
}

function raw(document: StoredDocument): RawDocument {
  return { where: document.id, body: document.body };
}

async function readPartition(store: DocumentStore, partition: string): Promise<StoredDocument[]> {
  const documents: StoredDocument[] = [];
  let cursor: string | null = null;
  do {
    const page = await store.list(partition, { cursor });
    documents.push(...page.documents);
    cursor = page.cursor;
  } while (cursor !== null);
  return documents;
}

async function checkFolder(folder: string): Promise<void> {
  await readdir(folder).catch((cause: unknown) => {
    const detail = `KEYTURN_POLICIES: the folder ${folder} cannot be read`;
    throw new AppError('bad_configuration', { detail, cause });
  });
}

async function readFolder(folder: string): Promise<RawDocument[]> {
  const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return [];
    throw new AppError('bad_configuration', { detail: `read the folder ${folder}`, cause });
  });
  const files = names.filter((name) => name.endsWith('.json')).sort();
  return Promise.all(files.map(async (name) => parseFile(join(folder, name), name)));
}

/** What cannot be read becomes a body that no schema accepts, so it is listed as a fault. */
async function parseFile(path: string, name: string): Promise<RawDocument> {
  const text = await readFile(path, 'utf8').catch(() => null);
  if (text === null) return { where: `${name} (cannot be read)`, body: null };
  try {
    return { where: name, body: JSON.parse(text) };
  } catch {
    return { where: `${name} (not JSON)`, body: null };
  }
}
