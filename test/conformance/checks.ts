import assert from 'node:assert/strict';
import type { AnyHandler } from '../../src/core/rotation/handler.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import type { BareCheck, Check } from './check.ts';
import { faultChecks } from './fault-checks.ts';
import { changingVerbs, fenceChecks } from './fence-checks.ts';
import type { TestTarget } from './fixture.ts';
import { messageOf, newSubject, openFence, Subject } from './subject.ts';

const printableAscii = String.fromCharCode(...Array.from({ length: 95 }, (_, index) => 32 + index));

/** What people choose; each goes through another rule of Unicode. */
const foreignPasswords = {
  accents: 'Grüße aus Köln, señor Ångström',
  'accents apart from their letters': 'Gru\u0308\u00dfe aus Ko\u0308ln, sen\u0303or',
  'other scripts': 'пароль-密码-パスワード-비밀번호',
  'compatibility forms': '\ufb01n \u2167 \uff21\uff22\uff23 \u00b2 \u2122 a very long one',
  'other spaces': 'one\u00a0two\u2003three\u3000four five',
  'soft hyphens': 'pass\u00adword pass\u00adword',
  'joiners and selectors': 'heart\u2764\ufe0f zero\u200dwidth\u2060joiner\ufeff',
  emoji: '\u{1f511}\u{1f5dd} keys \u{1f511}\u{1f5dd}',
};

/** What holds for a handler whether or not it has a target. */
export const bareChecks: readonly BareCheck[] = [
  {
    name: 'declares an id, its class and all verbs',
    run: async (handler) => {
      assert.match(handler.id, /^[a-z0-9][a-z0-9-]{0,62}$/);
      assert.equal(handler.credentialClass, 'chosen');
      for (const verb of ['preflight', 'apply', 'verify', 'retire', 'restore'] as const) {
        assert.equal(typeof handler[verb], 'function', verb);
      }
    },
  },
];

/** What holds for a handler that has no target: there is nothing to touch, and nothing fails. */
export const targetlessChecks: readonly BareCheck[] = [
  {
    name: 'has no settings, no resources and no logins',
    run: async (handler) => {
      assert.equal(handler.targetSettings, null);
      assert.equal(handler.overlap(null), 'none');
      assert.deepEqual(handler.resources(null), []);
      assert.equal(handler.nextLogin(null, null), null);
    },
  },
  {
    name: 'goes through every verb, twice, without asking for an admin',
    run: async (handler) => {
      const admin = () => assert.fail('there is no admin');
      const context = { settings: null, admin };
      const credential = { username: null, password: new SecretString('any') };
      for (let round = 0; round < 2; round += 1) {
        await handler.preflight(context, null);
        await handler.apply(context, credential, openFence());
        assert.equal(await handler.verify(context, credential), true);
        await handler.retire(context, null, openFence());
        await handler.restore(context, credential, openFence());
      }
    },
  },
];

const declarations: readonly Check[] = [
  {
    name: 'refuses settings with an unknown field, at every depth',
    run: async (handler, target) => {
      const { login } = await newSubject(handler, target);
      const settings = login.settingsAt(target.address);
      const variants = withUnknownField(settings);
      assert.ok(handler.targetSettings?.safeParse(settings).success, 'its own settings');
      for (const [path, variant] of variants) {
        assert.ok(!handler.targetSettings.safeParse(variant).success, `${path}surprise is taken`);
      }
    },
  },
  {
    name: 'names its resources the same whatever the letter case of the host',
    run: async (handler, target) => {
      const { login } = await newSubject(handler, target);
      const resourcesAt = (host: string) =>
        handler.resources(
          handler.targetSettings?.parse(login.settingsAt({ ...target.address, host })),
        );
      const resources = resourcesAt('db.example.com');
      assert.ok(resources.length > 0, 'it names none');
      assert.equal(new Set(resources).size, resources.length, 'it names one twice');
      assert.deepEqual(resourcesAt('db.example.com'), resources);
      assert.deepEqual(resourcesAt('DB.Example.COM'), resources);
      assert.notDeepEqual(resourcesAt('db2.example.com'), resources);
    },
  },
  {
    name: 'gives two logins two resources',
    run: async (handler, target) => {
      const [one, other] = [await newSubject(handler, target), await newSubject(handler, target)];
      const names = new Set(handler.resources(one.settings()));
      const shared = handler.resources(other.settings()).filter((name) => names.has(name));
      assert.deepEqual(shared, []);
    },
  },
];

const verbs: readonly Check[] = [
  {
    name: 'preflight changes nothing and says the same again',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      const before = await subject.login.state();
      await subject.succeed('preflight');
      await subject.succeed('preflight');
      assert.equal(await subject.login.state(), before);
      await subject.logsIn(subject.base);
    },
  },
  {
    name: 'preflight fails with target_refused wherever apply could not succeed',
    run: (handler, target) =>
      whereHopeless(handler, target, async (subject) => {
        const before = await subject.login.state();
        await subject.fail('preflight', ['target_refused']);
        assert.equal(await subject.login.state(), before, 'preflight changed something');
      }),
  },
  {
    name: 'apply, retire and restore fail with nothing but target_refused where they cannot succeed',
    run: (handler, target) =>
      whereHopeless(handler, target, async (subject) => {
        for (const verb of changingVerbs) {
          const ending = await subject.attempt(verb);
          if (ending.kind === 'failed') assert.equal(ending.error.code, 'target_refused', verb);
        }
      }),
  },
  {
    name: 'apply makes the candidate log in and may be repeated',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      for (let round = 0; round < 3; round += 1) {
        await subject.succeed('apply');
        await subject.logsIn(subject.candidate);
      }
      const isKept = handler.overlap(subject.settings()) === 'users';
      assert.equal(await subject.login.logsIn(subject.base), isKept, 'the base');
    },
  },
  {
    name: 'apply of a second candidate replaces the first',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      const second = subject.newCandidate();
      await subject.succeed('apply');
      await subject.succeed('apply', { credential: second });
      await subject.logsIn(second);
      await subject.isShutOut(subject.candidate);
    },
  },
  {
    name: 'retire shuts the old credential out, spares an alternate, and may be repeated',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      const isApart = handler.overlap(subject.settings()) === 'users';
      if (isApart) await subject.succeed('apply');
      for (let round = 0; round < 2; round += 1) {
        await subject.succeed('retire');
        await subject.isShutOut(subject.base);
        if (isApart) await subject.logsIn(subject.candidate);
      }
    },
  },
  {
    name: 'restore puts the base back in force, also after retire, and may be repeated',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      for (const undone of ['apply', 'retire'] as const) {
        await subject.succeed(undone);
        await subject.succeed('restore');
        await subject.logsIn(subject.base);
        await subject.succeed('restore');
        await subject.logsIn(subject.base);
      }
    },
  },
  {
    name: 'verify says true for the right password and false for a wrong one, and changes nothing',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      const before = await subject.login.state();
      const wrong = { ...subject.base, password: new SecretString('nobody-ever-chose-this-one') };
      assert.equal(await subject.succeed('verify'), true);
      assert.equal(await subject.succeed('verify', { credential: wrong }), false);
      assert.equal(await subject.succeed('verify'), true);
      assert.equal(await subject.login.state(), before);
    },
  },
  {
    name: 'two applies of one candidate at once end well',
    run: async (handler, target) => {
      const subject = await newSubject(handler, target);
      for (let round = 0; round < 5; round += 1) {
        const credential = subject.newCandidate();
        const call = () => subject.attempt('apply', { credential });
        const endings = await Promise.all([call(), call()]);
        const failed = endings.filter((ending) => ending.kind === 'failed');
        assert.ok(failed.length < 2, 'both failed');
        for (const { error } of failed) assert.ok(error.retryable, error.message);
        await subject.logsIn(credential);
      }
    },
  },
];

const passwords: readonly Check[] = Object.entries({
  'every printable ASCII character': printableAscii,
  ...foreignPasswords,
}).map(([kind, password]) => ({
  name: `a password with ${kind} logs in after apply and after restore`,
  run: async (handler, target) => {
    const subject = await newSubject(handler, target);
    const credential = subject.newCandidate(password);
    await subject.succeed('apply', { credential });
    await subject.logsIn(credential);
    assert.equal(await subject.succeed('verify', { credential }), true, 'verify');
    const base = subject.known({ ...subject.base, password: new SecretString(password) });
    await subject.succeed('restore', { credential: base });
    await subject.logsIn(base);
  },
}));

/** What holds for a handler at a running target. */
export const checks: readonly Check[] = [
  ...declarations,
  ...verbs,
  ...fenceChecks,
  ...faultChecks,
  ...passwords,
];

/** Runs `judge` for each hopeless case and tells of all that fail. */
async function whereHopeless(
  handler: AnyHandler,
  target: TestTarget,
  judge: (subject: Subject) => Promise<void>,
): Promise<void> {
  const cases = await target.hopeless();
  assert.ok(cases.length > 0, 'the fixture knows none');
  const faults: string[] = [];
  for (const { name, login, admin } of cases) {
    const subject = new Subject(handler, target, { login, admin });
    await judge(subject).catch((error: unknown) => faults.push(`${name}: ${messageOf(error)}`));
  }
  if (faults.length > 0) assert.fail(faults.join('\n'));
}

/** `settings` with one member too many, once for each object in it. */
function withUnknownField(
  settings: Readonly<Record<string, unknown>>,
  path = '',
): [string, Record<string, unknown>][] {
  const deeper = Object.entries(settings).flatMap(([name, member]) =>
    isRecord(member)
      ? withUnknownField(member, `${path}${name}.`).map(
          ([at, changed]): [string, Record<string, unknown>] => [
            at,
            { ...settings, [name]: changed },
          ],
        )
      : [],
  );
  return [[path, { ...settings, surprise: 1 }], ...deeper];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
