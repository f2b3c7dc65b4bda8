import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { skipReasons } from '../../src/core/rotation/decide.ts';

const root = resolve(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
];
const scripts = Object.keys(JSON.parse(read('package.json')).scripts);

describe('the documents', () => {
  it.each(documents)('%s names only commands that exist', (file) => {
    const named = [...read(file).matchAll(/npm run (?:--silent )?([a-z:]+)/g)].map(
      ([, name]) => name,
    );
    expect(named.filter((name) => !scripts.includes(name ?? ''))).toEqual([]);
  });

  it.each(documents)('%s links only to what is there', (file) => {
    const links = [...read(file).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(
      ([, link]) => link ?? '',
    );
    const missing = links.filter((link) => !existsSync(join(root, dirname(file), link)));
    expect(missing).toEqual([]);
  });

  it('say every command in the README, in under 150 lines', () => {
    const readme = read('README.md');
    const untold = scripts.filter((name) => !new RegExp(`npm (run )?${name}\\b`).test(readme));
    // `format` mends what `check` finds; CONTRIBUTING.md says so.
    expect(untold).toEqual(['format']);
    expect(readme.split('\n').length).toBeLessThan(150);
  });

  it('explain every reason for a skip in the runbook', () => {
    const runbook = read('docs/runbook.md');
    expect(skipReasons.filter((reason) => !runbook.includes(`\`${reason}\``))).toEqual([]);
  });

  it('list every log event and every setting in the runbook', () => {
    const runbook = read('docs/runbook.md');
    const sources = readdirSync(join(root, 'src/core'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => read(join('src/core', file)));
    const events = sources.flatMap((text) =>
      [...text.matchAll(/\b(?:info|warn|error|\])\(\s*'([a-z_]+\.[a-z_]+)'/g)].map(
        ([, name]) => name,
      ),
    );
    const settings = [...read('src/core/config.ts').matchAll(/\b(KEYTURN_[A-Z_]+)/g)].map(
      ([, name]) => name,
    );
    expect(events.length).toBeGreaterThan(15);
    const all = [...new Set([...events, ...settings])];
    expect(all.filter((name) => !runbook.includes(`\`${name}\``))).toEqual([]);
  });
});
