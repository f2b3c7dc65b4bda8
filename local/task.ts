import { spawn } from 'node:child_process';
import { once } from 'node:events';

// npm scripts that are a row of commands: each says what it does, and stops at the first command that fails.

type Task = {
  readonly usage: string;
  /** Run one after the other; what follows `--` on the command line goes to the last one. */
  readonly commands: readonly [string, ...string[]][];
};

const build: Task['commands'][number] = ['node', 'local/build.ts', '--quiet'];

const tasks: Readonly<Record<string, Task>> = {
  check: {
    usage: `npm run check: format, lint, types, import law and unused code; everything but the tests.

  npm run format   mends what it finds of format and lint
`,
    commands: [
      ['biome', 'ci', '.'],
      ['tsc', '--noEmit'],
      ['vitest', 'run', 'test/architecture.test.ts'],
      ['knip'],
    ],
  },
  format: {
    usage: `npm run format: mends format and what of lint can be mended safely.

  npm run format -- [FILE …]   those files only
`,
    commands: [['biome', 'check', '--write']],
  },
  test: {
    usage: `npm test: every test that needs nothing but npm, with coverage of src/core.

  npm test -- [FILE …] [-t PATTERN]   those files, those tests; every option of vitest
`,
    commands: [build, ['vitest', 'run', '--coverage']],
  },
  'test:faults': {
    usage: `npm run test:faults: the whole kill sweep, frozen processes, storms and broken parts.

  npm run test:faults -- [FILE …] [-t PATTERN]   those files, those tests; every option of vitest

  KEYTURN_FAULT_POINT=users:after:37   that point of the sweep alone
  KEYTURN_FAULT_LANES=N                how many apps are killed side by side
`,
    commands: [build, ['vitest', 'run', '--config', 'vitest.faults.config.ts']],
  },
};

async function main([name = '', ...rest]: readonly string[]): Promise<number> {
  const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
  if (task === undefined) {
    console.error(`There is no task "${name}"; there are ${Object.keys(tasks).join(', ')}.`);
    return 2;
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(task.usage);
    return 0;
  }
  // Ctrl-C reaches the command too: it ends in its own time, and so do we.
  process.on('SIGINT', () => undefined);
  for (const [index, command] of task.commands.entries()) {
    const isLast = index === task.commands.length - 1;
    const code = await run([...command, ...(isLast ? rest : [])]);
    if (code !== 0) return code;
  }
  return 0;
}

async function run([command = '', ...args]: readonly string[]): Promise<number> {
  // npm has put node_modules/.bin on the path; on Windows what lies there are scripts of the shell.
  const child = spawn(command, args, { stdio: 'inherit', shell: process.platform === 'win32' });
  process.once('SIGTERM', () => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}

process.exitCode = await main(process.argv.slice(2));
