import type { Clock } from './clock.ts';
import { generateMaterial, specOf } from './key-material.ts';
import { rotatedVersion } from './key-rotation.ts';
import { noticeSeconds, rotationDue } from './key-rotation-policy.ts';
import type { Key } from './keys.ts';
import { currentVersion, keyOf, type Stored } from './store.ts';
import type { Vault } from './vault.ts';

export type RotationWatch = {
  /** Looks at the key of that name anew; to be called after every change of it. */
  readonly watch: (vault: Vault, name: string) => void;
};

/**
 * Rotates keys when their policy says so.
 *
 * @param rotated the key has a new version; expected to lead to `watch` again
 */
export function watchRotation(
  clock: Pick<Clock, 'now' | 'at'>,
  rotated: (vault: Vault, key: Key) => void,
): RotationWatch {
  const waiting = new Map<string, () => void>();
  const dueOf = (key: Key): number | null => rotationDue(key.rotationPolicy, currentVersion(key));
  const rotateIfDue = async (vault: Vault, key: Key): Promise<void> => {
    const isDue = (): boolean => {
      const due = dueOf(key);
      return due !== null && due * 1000 <= clock.now() && vault.keys.find(key.name) === key;
    };
    if (!isDue()) return;
    const material = await generateMaterial(specOf(currentVersion(key).material));
    // While it was made the key may have been deleted, rotated by hand or given another policy.
    if (!isDue()) return;
    key.versions.push(rotatedVersion(key, material, Math.floor(clock.now() / 1000)));
    rotated(vault, key);
  };
  const watch = (vault: Vault, name: string): void => {
    const id = `${vault.name} ${keyOf(name)}`;
    waiting.get(id)?.();
    waiting.delete(id);
    const key = vault.keys.find(name);
    const due = key === null ? null : dueOf(key);
    if (key === null || due === null) return;
    waiting.set(
      id,
      clock.at(due * 1000, () => rotateIfDue(vault, key)),
    );
  };
  return { watch };
}

/** How long before `exp` the near-expiry event of an object is due by its own policy; `null`: it has none. */
export function ownLeadSeconds(object: Stored, exp: number): number | null {
  // Only keys have a policy.
  return noticeSeconds((object as Key).rotationPolicy, exp);
}
