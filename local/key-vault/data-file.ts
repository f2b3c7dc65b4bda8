import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { takeLock } from './file-lock.ts';
import { parseState, type State, stateOf } from './state.ts';
import { loadInto, type Vault } from './vault.ts';

export type DataFile = {
  /**
   * Fills the vaults with what was saved, if anything was. From then on the file is this emulator's alone.
   *
   * @throws Error when the file cannot be understood, or another emulator has it
   */
  readonly load: () => Promise<void>;
  /** Something changed: written soon, together with what changes until then. */
  readonly changed: () => void;
  /** Writes what is not written yet, and leaves the file to others. */
  readonly close: () => Promise<void>;
};

const debounceMs = 50;
// A large state blocks the server while it is written: it shall spend a fifth of its time on that at most.
const pauseByWrite = 4;
const nothing = async (): Promise<void> => undefined;

/**
 * The state of the emulator in one file: secrets in the clear, hence mode 0600, and replaced in one step so that a
 * crash leaves the old or the new state. Vaults of the file that are not served this time stay in it.
 *
 * @param file `null`: memory only
 */
export function openDataFile(file: string | null, vaults: readonly Vault[]): DataFile {
  if (file === null) return { load: nothing, changed: () => undefined, close: nothing };
  let saved: State['vaults'] = {};
  let timer: NodeJS.Timeout | null = null;
  let writing: Promise<void> = Promise.resolve();
  let lastWriteMs = 0;
  let unlock = nothing;

  const write = async (): Promise<void> => {
    const before = performance.now();
    await writeState(file, { format: 2, vaults: { ...saved, ...stateOf(vaults).vaults } });
    lastWriteMs = performance.now() - before;
  };
  const enqueue = (): Promise<void> => {
    timer = null;
    // One write after the other; a failed one must not stop those behind it.
    writing = writing.then(write).catch((error: unknown) => {
      console.error(`key-vault: ${file} cannot be written`, error);
    });
    return writing;
  };
  return {
    load: async () => {
      unlock = await takeLock(file);
      saved = (await readState(file))?.vaults ?? {};
      for (const vault of vaults) {
        const snapshot = Object.hasOwn(saved, vault.name) ? saved[vault.name] : undefined;
        if (snapshot !== undefined) loadInto(vault, snapshot);
      }
    },
    changed: () => {
      timer ??= setTimeout(() => void enqueue(), Math.max(debounceMs, pauseByWrite * lastWriteMs));
    },
    close: async () => {
      if (timer !== null) {
        clearTimeout(timer);
        await enqueue();
      }
      await writing;
      await unlock();
      unlock = nothing;
    },
  };
}

async function writeState(file: string, state: State): Promise<void> {
  const temporary = `${file}.tmp`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(temporary, JSON.stringify(state), { mode: 0o600 });
  // `mode` counts for new files only, and a crash may have left one.
  await chmod(temporary, 0o600);
  await rename(temporary, file);
}

async function readState(file: string): Promise<State | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  const json = parseJson(file, text);
  if (json !== null && typeof json === 'object' && 'format' in json && json.format !== 2) {
    throw new Error(`${file} is of another version of the emulator; move it away to start anew.`);
  }
  try {
    return parseState(json);
  } catch (cause) {
    throw noState(file, cause);
  }
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw noState(file, cause);
  }
}

function noState(file: string, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Error(`${file} is no emulator state; move it away to start anew. ${reason}`, {
    cause,
  });
}
