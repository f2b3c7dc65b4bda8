/** `text` with every `%NAME%` replaced from the environment. @throws Error when a name is unknown. */
export function resolveSettings(text: string, env: NodeJS.ProcessEnv): string {
  return text.replaceAll(/%([^%]+)%/g, (whole, name: string) => {
    const value = env[name];
    if (value === undefined) {
      throw new Error(`'${whole}' does not resolve to a value; set the app setting ${name}`);
    }
    return value;
  });
}

/** The connection string a binding's `connection` names. @throws Error that names the setting. */
export function connectionString(connection: string | undefined, env: NodeJS.ProcessEnv): string {
  const name = connection === undefined || connection === '' ? 'AzureWebJobsStorage' : connection;
  const value = env[`AzureWebJobs${name}`] ?? env[`ConnectionStrings:${name}`] ?? env[name];
  if (value !== undefined && value !== '') return value;
  const identity = ['accountName', 'queueServiceUri', 'blobServiceUri'].find(
    (part) => env[`${name}__${part}`],
  );
  if (identity !== undefined) {
    throw new Error(
      `${name}__${identity}: identity-based connections are not served locally; set ${name}`,
    );
  }
  throw new Error(`setting ${name} (a storage connection string) is missing`);
}
