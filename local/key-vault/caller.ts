/** Who calls, as the token says. */
export type Caller = {
  readonly appId: string | null;
  readonly objectId: string | null;
  readonly issuer: string | null;
};

/** As the service's messages and logs write it. */
export function describeCaller({ appId, objectId, issuer }: Caller): string {
  return `appid=${appId ?? ''};oid=${objectId ?? ''};iss=${issuer ?? ''}`;
}
