/** A data key as it lies in an envelope: only the wrapping key `keyId` gives it back. */
export interface WrappedKey {
  /**
   * Names one version of one key, for ever: a Key Vault `kid` with its version. Printable ASCII, at
   * most 512.
   */
  readonly keyId: string;
  /** As in RFC 7518: `A256KW`, `RSA-OAEP-256`. Printable ASCII, at most 32. */
  readonly algorithm: string;
  /** 1 to 1,024 bytes. */
  readonly wrapped: Uint8Array;
}

/**
 * A key that wraps data keys and never leaves where it is kept. Implementers: the keys of a vault
 * and `localWrappingKey`.
 *
 * What `unwrap` is given was read from an envelope that anybody may have written, so an
 * implementer asks no other keys than its own, whatever `keyId` says, and uses no other algorithm
 * than its own: never RSA1_5, whose padding tells an attacker about the key. Each call ends within
 * a time of the implementer's choice; when `signal` fires nobody waits for it any more.
 */
export interface WrappingKey {
  /**
   * Wraps under the newest version.
   * @param dataKey 32 bytes; wiped by the caller afterwards, so not to be kept
   * @throws AppError `vault_*`
   */
  wrap(dataKey: Uint8Array, signal?: AbortSignal): Promise<WrappedKey>;
  /**
   * The data key, in memory that the caller may wipe.
   * @throws AppError `not_found` for a key or version that is not this one's, `object_disabled`,
   * `corrupt` for bytes this key has not wrapped; `vault_*`
   */
  unwrap(key: WrappedKey, signal?: AbortSignal): Promise<Uint8Array>;
}
