import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** What this process has locked: a lock with its number that is not in here was left by a process that had it before. */
const held = new Set<string>();

/**
 * Makes a file this process's own, by a file beside it that holds the process id. What a process left that is no more
 * is taken over.
 *
 * @returns gives it up
 * @throws Error when a living process has it
 */
export async function takeLock(file: string): Promise<() => Promise<void>> {
  const lock = `${resolve(file)}.lock`;
  await mkdir(dirname(lock), { recursive: true });
  if (!(await create(lock))) {
    const owner = await ownerOf(lock);
    if (isAlive(owner, lock)) throw inUse(file, owner);
    await rm(lock, { force: true });
    // Another process that took it over in the meantime has it.
    if (!(await create(lock))) throw inUse(file, await ownerOf(lock));
  }
  held.add(lock);
  return async () => {
    held.delete(lock);
    await rm(lock, { force: true });
  };
}

async function create(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, `${process.pid}\n`, { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function ownerOf(lock: string): Promise<number> {
  try {
    return Number.parseInt(await readFile(lock, 'utf8'), 10);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return Number.NaN;
    throw error;
  }
}

function isAlive(pid: number, lock: string): boolean {
  if (pid === process.pid) return held.has(lock);
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: there is one, of another user.
    return codeOf(error) !== 'ESRCH';
  }
}

function inUse(file: string, pid: number): Error {
  return new Error(`${file} is in use by another emulator (process ${pid}).`);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
