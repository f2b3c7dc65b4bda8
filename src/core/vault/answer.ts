/** Where an answer came from; `stale` only with `fromCache`: older than it should be, because the vault is down. */
export interface Served {
  readonly servedBy: 'primary' | 'secondary';
  readonly fromCache: boolean;
  readonly stale: boolean;
}

export type Answered<V> = V & { readonly served: Served };

/** What services of secrets, keys and certificates have in common. */
export interface Reads {
  get(name: string, version?: string): Promise<object>;
}

/** A service whose `get` says where its answer came from. */
export type Answering<Service extends Reads> = Omit<Service, 'get'> & {
  get(name: string, version?: string): Promise<Answered<Awaited<ReturnType<Service['get']>>>>;
};

type How = 'asked' | 'cached' | 'stale';

/** `value`, saying where it came from: asked of a vault just now, or kept since. What it said before is replaced. */
export function answered<V extends object>(
  value: V,
  by: Served['servedBy'] = 'primary',
  how: How = 'asked',
): Answered<V> {
  return { ...value, served: served[by][how] };
}

/** Which vault an answer came from; the primary one unless it says otherwise. */
export function servedBy(value: object): Served['servedBy'] {
  return (value as Partial<Answered<object>>).served?.servedBy ?? 'primary';
}

const served = { primary: servedAs('primary'), secondary: servedAs('secondary') };

function servedAs(servedBy: Served['servedBy']): Readonly<Record<How, Served>> {
  return {
    asked: Object.freeze({ servedBy, fromCache: false, stale: false }),
    cached: Object.freeze({ servedBy, fromCache: true, stale: false }),
    stale: Object.freeze({ servedBy, fromCache: true, stale: true }),
  };
}
