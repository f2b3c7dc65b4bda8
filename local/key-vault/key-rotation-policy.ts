import { z } from 'zod';
import { parseBody } from './bundles.ts';
import { errors } from './errors.ts';
import { type Duration, nominalDays, parseDuration, shift } from './iso-duration.ts';
import type { KeyVersion } from './keys.ts';

/** What happens to a key by itself. Durations are kept as they were written. */
export type RotationPolicy = {
  readonly lifetimeActions: readonly LifetimeAction[];
  /** How long a version lives that a rotation makes. */
  readonly expiryTime?: string;
  readonly created: number;
  readonly updated: number;
};

type LifetimeAction = {
  readonly trigger: { readonly timeAfterCreate: string } | { readonly timeBeforeExpiry: string };
  readonly action: { readonly type: ActionType };
};
type ActionType = 'Rotate' | 'Notify';

const minTriggerDays = 7;
const minExpiryDays = 28;
// Added by the service to every policy that has none, and what a key without a policy has.
export const defaultNotify: LifetimeAction = {
  trigger: { timeBeforeExpiry: 'P30D' },
  action: { type: 'Notify' },
};

const Text = z.string().nullish();
const PolicyBody = z.object({
  lifetimeActions: z
    .array(
      z.object({
        trigger: z.object({ timeAfterCreate: Text, timeBeforeExpiry: Text }),
        action: z.object({ type: z.string() }),
      }),
    )
    .nullish(),
  attributes: z.object({ expiryTime: Text }).nullish(),
});

/**
 * The policy of a request, completed.
 *
 * @throws VaultError 400 for a policy that the service does not take
 */
export function rotationPolicyFrom(
  body: unknown,
  earlier: RotationPolicy | undefined,
  now: number,
): RotationPolicy {
  const input = parseBody(PolicyBody, body);
  const expiryTime = input.attributes?.expiryTime ?? null;
  const expiryDays = expiryTime === null ? null : daysOf('attributes.expiryTime', expiryTime);
  if (expiryDays !== null && expiryDays < minExpiryDays) {
    throw errors.badParameter(`The expiry time must be at least ${minExpiryDays} days.`);
  }
  const actions = (input.lifetimeActions ?? []).map((action) => actionFrom(action, expiryDays));
  for (const type of ['Rotate', 'Notify'] as const) {
    if (actions.filter(({ action }) => action.type === type).length > 1) {
      throw errors.badParameter(`A rotation policy has at most one ${type} action.`);
    }
  }
  const notifies = actions.some(({ action }) => action.type === 'Notify');
  return {
    lifetimeActions: notifies ? actions : [...actions, defaultNotify],
    ...(expiryTime === null ? {} : { expiryTime }),
    created: earlier?.created ?? now,
    updated: now,
  };
}

type ActionInput = NonNullable<z.output<typeof PolicyBody>['lifetimeActions']>[number];

function actionFrom({ trigger, action }: ActionInput, expiryDays: number | null): LifetimeAction {
  const type = (['Rotate', 'Notify'] as const).find(
    (known) => known.toLowerCase() === action.type.toLowerCase(),
  );
  if (type === undefined) throw errors.badProperty('lifetimeActions.action.type');
  const { timeAfterCreate, timeBeforeExpiry } = trigger;
  // null counts as absent: clients send it for the trigger that they do not use.
  if ((typeof timeAfterCreate === 'string') === (typeof timeBeforeExpiry === 'string')) {
    throw errors.badParameter('A lifetime action has one trigger.');
  }
  const text = timeAfterCreate ?? timeBeforeExpiry ?? '';
  const days = daysOf('lifetimeActions.trigger', text);
  if (days < minTriggerDays) {
    throw errors.badParameter(`A trigger must be at least ${minTriggerDays} days.`);
  }
  if (type === 'Notify') {
    if (typeof timeAfterCreate === 'string') {
      throw errors.badParameter('A Notify action is triggered by timeBeforeExpiry only.');
    }
    return { trigger: { timeBeforeExpiry: text }, action: { type } };
  }
  mustFit(days, expiryDays, typeof timeBeforeExpiry === 'string');
  const kept =
    typeof timeAfterCreate === 'string' ? { timeAfterCreate } : { timeBeforeExpiry: text };
  return { trigger: kept, action: { type } };
}

/** A rotation is at least 7 days after the creation, and 7 days before the end. */
function mustFit(days: number, expiryDays: number | null, isBeforeExpiry: boolean): void {
  if (expiryDays === null) {
    if (!isBeforeExpiry) return;
    throw errors.badParameter('A rotation before expiry needs an expiry time.');
  }
  if (days > expiryDays - minTriggerDays) {
    throw errors.badParameter(
      `A rotation must be at least ${minTriggerDays} days after creation and before expiry.`,
    );
  }
}

function daysOf(property: string, text: string): number {
  const duration = parseDuration(text);
  if (duration === null) throw errors.badProperty(property);
  return nominalDays(duration);
}

/** When a version of this key is due to be replaced, in seconds; `null`: never. */
export function rotationDue(
  policy: RotationPolicy | undefined,
  { created, exp }: Pick<KeyVersion, 'created' | 'exp'>,
): number | null {
  const rotate = policy?.lifetimeActions.find(({ action }) => action.type === 'Rotate');
  if (rotate === undefined) return null;
  if ('timeAfterCreate' in rotate.trigger) {
    return shift(created, kept(rotate.trigger.timeAfterCreate));
  }
  return exp === undefined ? null : shift(exp, kept(rotate.trigger.timeBeforeExpiry), -1);
}

/** When a version that is made now ends; `null`: never. */
export function expiryOfRotated(policy: RotationPolicy | undefined, now: number): number | null {
  return policy?.expiryTime === undefined ? null : shift(now, kept(policy.expiryTime));
}

/** How long before `exp` the near-expiry event is due, in seconds; `null`: the vault's default. */
export function noticeSeconds(policy: RotationPolicy | undefined, exp: number): number | null {
  // Without an expiry time the Notify action has no effect.
  if (policy?.expiryTime === undefined) return null;
  const notify = policy.lifetimeActions.find(({ action }) => action.type === 'Notify');
  if (notify === undefined || !('timeBeforeExpiry' in notify.trigger)) return null;
  return exp - shift(exp, kept(notify.trigger.timeBeforeExpiry), -1);
}

function kept(text: string): Duration {
  const duration = parseDuration(text);
  if (duration === null) throw new Error(`a kept policy has the duration ${text}`);
  return duration;
}
