import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { folderSource, storageSource } from '../../../src/core/policies/source.ts';
import { memoryDocuments } from '../../../src/core/storage/memory.ts';

describe('documents in a folder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keyturn-documents-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('are every JSON file of policies and targets, in order', async () => {
    await mkdir(join(folder, 'policies'));
    await mkdir(join(folder, 'targets'));
    await writeFile(join(folder, 'policies', 'b.json'), '{"id":"b"}');
    await writeFile(join(folder, 'policies', 'a.json'), '{"id":"a"}');
    await writeFile(join(folder, 'policies', 'notes.txt'), 'hello');
    await writeFile(join(folder, 'targets', 't.json'), '{"id":"t"}');
    expect(await folderSource(folder).read()).toEqual({
      policies: [
        { where: 'a.json', body: { id: 'a' } },
        { where: 'b.json', body: { id: 'b' } },
      ],
      targets: [{ where: 't.json', body: { id: 't' } }],
    });
  });

  it('are none where the folder is empty', async () => {
    expect(await folderSource(folder).read()).toEqual({ policies: [], targets: [] });
  });

  it('of a folder that is not there are a fault, not none', async () => {
    const read = folderSource(join(folder, 'nowhere')).read();
    await expect(read).rejects.toMatchObject({ code: 'bad_configuration' });
  });

  it('that cannot be read are listed as what they are, beside the others', async () => {
    await mkdir(join(folder, 'policies', 'folder.json'), { recursive: true });
    await writeFile(join(folder, 'policies', 'broken.json'), '{');
    await writeFile(join(folder, 'policies', 'good.json'), '{}');
    expect((await folderSource(folder).read()).policies).toEqual([
      { where: 'broken.json (not JSON)', body: null },
      { where: 'folder.json (cannot be read)', body: null },
      { where: 'good.json', body: {} },
    ]);
  });

  it('in a folder that is none are a fault of the configuration', async () => {
    await writeFile(join(folder, 'policies'), 'a file');
    await expect(folderSource(folder).read()).rejects.toMatchObject({ code: 'bad_configuration' });
  });
});

describe('documents in storage', () => {
  it('are all of the partitions policies and targets, however many', async () => {
    const store = memoryDocuments();
    for (let i = 0; i < 130; i++) await store.put('policies', `p${i}`, { id: `p${i}` }, 'absent');
    await store.put('targets', 't', { id: 't' }, 'absent');
    const { policies, targets } = await storageSource(store).read();
    expect(policies).toHaveLength(130);
    expect(targets).toEqual([{ where: 't', body: { id: 't' } }]);
  });
});
