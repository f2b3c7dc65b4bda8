import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { AppError, type ErrorCode } from '../../src/core/errors.ts';
import type { AnyHandler, Fence, HandlerContext } from '../../src/core/rotation/handler.ts';
import type { Credential } from '../../src/core/rotation/value.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import type { Address } from './cutting-proxy.ts';
import type { FreshLogin, TestTarget } from './fixture.ts';

export type ChangingVerb = 'apply' | 'retire' | 'restore';
export type Verb = ChangingVerb | 'preflight' | 'verify';

/** What differs from a call in the best of worlds. */
export interface Call {
  readonly at?: Address;
  readonly fence?: Fence;
  /** Instead of the candidate (apply), the base (restore, verify). */
  readonly credential?: Credential;
}

/** How a verb ended; an error was judged already. */
export type Ending =
  | { readonly kind: 'done'; readonly value: unknown }
  | { readonly kind: 'failed'; readonly error: AppError };

const mayThrow: Record<Verb, readonly ErrorCode[]> = {
  preflight: ['target_unreachable', 'target_refused'],
  verify: ['target_unreachable', 'target_refused'],
  apply: ['target_unreachable', 'target_refused', 'lease_lost'],
  retire: ['target_unreachable', 'target_refused', 'lease_lost'],
  restore: ['target_unreachable', 'target_refused', 'lease_lost'],
};

/** One fresh login being rotated by `handler`, with a judge over every call. */
export class Subject {
  readonly handler: AnyHandler;
  readonly target: TestTarget;
  readonly login: FreshLogin;
  readonly base: Credential;
  readonly candidate: Credential;
  readonly admin: Credential;
  readonly #canaries: Credential[];

  constructor(
    handler: AnyHandler,
    target: TestTarget,
    { login, admin }: { readonly login: FreshLogin; readonly admin: Credential },
  ) {
    this.handler = handler;
    this.target = target;
    this.login = login;
    this.admin = admin;
    this.base = login.base;
    this.#canaries = [login.base, admin];
    this.candidate = this.newCandidate();
  }

  settings(address: Address = this.target.address): unknown {
    return this.handler.targetSettings?.parse(this.login.settingsAt(address));
  }

  newCandidate(password = `candidate-${randomBytes(18).toString('base64url')}`): Credential {
    const username = this.handler.nextLogin(this.settings(), this.base.username);
    return this.known({ username, password: new SecretString(password) });
  }

  /** No error may hold it from now on. */
  known(credential: Credential): Credential {
    this.#canaries.push(credential);
    return credential;
  }

  /** Runs one verb within the target's patience. @throws AssertionError when it hangs or its error is bad */
  async attempt(verb: Verb, call: Call = {}): Promise<Ending> {
    const started = Date.now();
    let timer: NodeJS.Timeout | undefined;
    const hung = new Promise<'hung'>((resolve) => {
      timer = setTimeout(() => resolve('hung'), this.target.patienceMs);
    });
    const ending = this.#run(verb, call).then(
      (value): Ending => ({ kind: 'done', value }),
      (error: unknown): Ending => ({ kind: 'failed', error: this.#judged(verb, error) }),
    );
    const first = await Promise.race([ending, hung]).finally(() => clearTimeout(timer));
    if (first !== 'hung') return first;
    // A late bad error is no news any more.
    ending.catch(() => undefined);
    return assert.fail(`${verb} has not ended after ${Date.now() - started} ms`);
  }

  /** Runs one verb that must succeed. */
  async succeed(verb: Verb, call: Call = {}): Promise<unknown> {
    const ending = await this.attempt(verb, call);
    if (ending.kind === 'done') return ending.value;
    return assert.fail(`${verb} failed: ${ending.error.message}`);
  }

  /** Runs one verb that must fail with one of `codes`. */
  async fail(verb: Verb, codes: readonly ErrorCode[], call: Call = {}): Promise<void> {
    const ending = await this.attempt(verb, call);
    if (ending.kind === 'done') assert.fail(`${verb} answered ${String(ending.value)}`);
    const { code, message } = ending.error;
    assert.ok(codes.includes(code), `${verb} failed with ${message}, not with ${codes.join(', ')}`);
  }

  async logsIn(credential: Credential): Promise<void> {
    assert.ok(await this.login.logsIn(credential), 'the credential does not log in');
  }

  async isShutOut(credential: Credential): Promise<void> {
    assert.ok(!(await this.login.logsIn(credential)), 'the credential still logs in');
  }

  /** Brings the login to where `verb` has something to do. */
  async prepare(verb: Verb): Promise<void> {
    if (verb !== 'restore') return;
    await this.succeed('apply');
    await this.succeed('retire');
    await this.isShutOut(this.base);
  }

  /** Asserts that the effect of `verb` is there. */
  async isReached(verb: ChangingVerb): Promise<void> {
    if (verb === 'apply') return this.logsIn(this.candidate);
    if (verb === 'restore') return this.logsIn(this.base);
    return this.isShutOut(this.base);
  }

  #run(verb: Verb, { at, fence = openFence(), credential }: Call): Promise<unknown> {
    const context: HandlerContext<unknown> = {
      settings: this.settings(at),
      admin: async () => this.admin,
    };
    switch (verb) {
      case 'preflight':
        return this.handler.preflight(context, this.candidate.username);
      case 'verify':
        return this.handler.verify(context, credential ?? this.base);
      case 'apply':
        return this.handler.apply(context, credential ?? this.candidate, fence);
      case 'retire':
        return this.handler.retire(context, this.base.username, fence);
      case 'restore':
        return this.handler.restore(context, credential ?? this.base, fence);
    }
  }

  #judged(verb: Verb, error: unknown): AppError {
    if (!(error instanceof AppError)) {
      return assert.fail(`${verb} threw ${nameOf(error)}, which is no AppError`);
    }
    const told = textsOf(error).join('\n');
    const passwords = this.#canaries.map(({ password }) => password.expose());
    const isTold = passwords.some((password) =>
      formsOf(password).some((form) => told.includes(form)),
    );
    assert.ok(!isTold, `the ${error.code} of ${verb} holds a password`);
    const derived = this.target.alsoSecret.find((pattern) => pattern.test(told));
    assert.ok(!derived, `the ${error.code} of ${verb} holds what matches ${derived}`);
    const codes = mayThrow[verb].join(', ');
    assert.ok(mayThrow[verb].includes(error.code), `${verb} threw ${error.code}, not ${codes}`);
    return error;
  }
}

/** A login nobody else uses, known to log in. */
export async function newSubject(handler: AnyHandler, target: TestTarget): Promise<Subject> {
  const login = await target.freshLogin();
  return new Subject(handler, target, { login, admin: target.admin });
}

/** A lease with a minute left, and what `changes` says otherwise. */
export function openFence(changes: Partial<Fence> = {}): Fence {
  return { hold: async () => 60_000, guard: () => undefined, ...changes };
}

export function leaseLost(): AppError {
  return new AppError('lease_lost', { detail: 'conformance kit' });
}

/** What an assertion said, for a list of several. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** Whatever a logger could make of `error` and its causes, members that do not enumerate included. */
function textsOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [inspect(error, { depth: 8 })];
  const members = Object.getOwnPropertyNames(error).map((name) => Reflect.get(error, name));
  return [
    String(error),
    error.stack ?? '',
    inspect(error, { depth: 8, maxStringLength: Infinity, maxArrayLength: Infinity }),
    ...members.filter((member) => typeof member === 'string'),
    ...(error instanceof AggregateError ? error.errors.flatMap(textsOf) : []),
    ...(error.cause === undefined ? [] : textsOf(error.cause)),
  ];
}

/** How `password` looks in text: plain, escaped, as hex, and as base64 wherever in a run it stands. */
function formsOf(password: string): string[] {
  const bytes = Buffer.from(password);
  const base64 = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    // The characters at both ends depend on the neighbours.
    return text.replaceAll('=', '').slice(shift === 0 ? 0 : shift + 1, -1);
  });
  return [
    password,
    JSON.stringify(password).slice(1, -1),
    encodeURIComponent(password),
    bytes.toString('hex'),
    ...base64,
    ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
  ];
}
