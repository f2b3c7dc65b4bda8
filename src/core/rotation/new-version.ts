import { addSeconds } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { NewSecret, SecretProperties } from '../vault/ports.ts';
import type { Journal } from './journal.ts';
import type { Run } from './run.ts';

/** What Key Vault takes. */
const tagLimit = 15;
/** Written by us, and so not carried over from the base version. */
const ourTags: readonly string[] = ['rotationId', 'previousVersion', 'login', 'rollbackOf'];

/** What is written when `value` is promoted: value, content type, expiry and tags in one. */
export function newVersion(
  { journal, policy, services }: Run,
  value: NewSecret['value'],
): NewSecret {
  const base = journal.baseProperties;
  return {
    value,
    contentType: policy.value.shape === 'json' ? 'application/json' : (base?.contentType ?? null),
    expiresOn: addSeconds(services.clock.now(), policy.schedule.validFor),
    tags: { ...Object.fromEntries(foreignTags(base?.tags ?? {})), ...tagsOf(journal) },
  };
}

/** @throws AppError `invalid_input` when the tags of `base` leave no room for those of this rotation */
export function checkTags({ rollback }: Journal, base: SecretProperties): void {
  // Only a rollback says what it is a rollback of.
  const needed = rollback ? ourTags.length : ourTags.length - 1;
  const foreign = foreignTags(base.tags).length;
  if (foreign + needed <= tagLimit) return;
  throw new AppError('invalid_input', {
    detail: `the secret has ${foreign} tags of its own; remove some: ${needed} of ${tagLimit} are needed here`,
  });
}

function foreignTags(tags: SecretProperties['tags']): [string, string][] {
  return Object.entries(tags).filter(([tag]) => !ourTags.includes(tag));
}

function tagsOf({ id, baseVersion, login, rollback }: Journal): Record<string, string> {
  return {
    rotationId: id,
    ...(baseVersion === null ? {} : { previousVersion: baseVersion }),
    ...(login === null ? {} : { login }),
    ...(rollback === null ? {} : { rollbackOf: rollback.of }),
  };
}
