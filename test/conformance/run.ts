import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { handlers } from '../../src/core/rotation/handlers/index.ts';

const known = [...handlers.keys()].join(', ');
const usage = `npm run conformance: what every rotation handler must do, tried at a real target.

  npm run conformance -- [<handler id>...]

  without an id: all handlers (${known})
  --help        this text`;

/** The handlers to try, or the exit code and text to leave with. */
function parseArguments(
  args: readonly string[],
): { readonly ids: readonly string[] } | { readonly exit: 0 | 2; readonly text: string } {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: 'boolean', default: false } },
    });
    if (values.help) return { exit: 0, text: usage };
    const unknown = positionals.filter((id) => !handlers.has(id));
    if (unknown.length === 0) return { ids: positionals };
    return { exit: 2, text: `there is no handler ${unknown.join(', ')}; known: ${known}` };
  } catch (error) {
    return { exit: 2, text: error instanceof Error ? error.message : String(error) };
  }
}

async function runKit(ids: readonly string[]): Promise<number> {
  const root = join(import.meta.dirname, '../..');
  const vitest = join(fileURLToPath(import.meta.resolve('vitest/package.json')), '../vitest.mjs');
  const chosen = ids.length > 0 ? { CONFORMANCE_HANDLERS: ids.join(',') } : {};
  const child = spawn(
    process.execPath,
    [vitest, 'run', '--config', 'vitest.conformance.config.ts'],
    { cwd: root, stdio: 'inherit', env: { ...process.env, ...chosen } },
  );
  // Ctrl-C reaches the child by the terminal; we stay to hand on how it ended.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code] = await once(child, 'exit');
  return typeof code === 'number' ? code : 1;
}

const parsed = parseArguments(process.argv.slice(2));
if ('ids' in parsed) {
  process.exitCode = await runKit(parsed.ids);
} else {
  (parsed.exit === 0 ? console.log : console.error)(parsed.text);
  process.exitCode = parsed.exit;
}
