import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  scripts: Record<string, string>;
};
const run = promisify(execFile);

describe('every npm script', () => {
  it.each(Object.keys(scripts))('%s says what it does when asked for --help', async (name) => {
    const { stdout, stderr } = await run('npm', ['run', '--silent', name, '--', '--help'], {
      timeout: 20_000,
      shell: process.platform === 'win32',
    });
    const command = name === 'start' || name === 'test' ? `npm ${name}` : `npm run ${name}`;
    expect(stdout).toContain(command);
    expect(stderr.replace(/^npm warn.*\n/gm, '')).toBe('');
  });

  it('refuses a task that does not exist', async () => {
    const failure = await run('node', ['local/task.ts', 'nosuch']).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 2, stderr: expect.stringContaining('"nosuch"') });
  });
});
