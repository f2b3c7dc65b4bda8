/** A request as any HTTP server can hand it over. */
export interface HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the path; names that the route does not have are ignored. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams | Readonly<Record<string, string>>;
  readBody(): Promise<Uint8Array>;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}
