/** Whether a version that expires at `expiresOn` is within `leadSeconds` of it; one without expiry never is. */
export function isDue(expiresOn: Date | null, leadSeconds: number, now: Date): boolean {
  return expiresOn !== null && expiresOn.getTime() - now.getTime() <= leadSeconds * 1000;
}
