/** One ratio, measured side by side in one run: the machine's speed cancels out. */
export interface Bench {
  readonly name: string;
  readonly goal: number;
  readonly better: 'higher' | 'lower';
  /** Milliseconds, or operations, of ours and of what it is held against; the ratio is ours ÷ theirs. */
  measure(): Promise<{ readonly ours: number; readonly theirs: number }>;
}

/** Milliseconds of CPU that `run` takes, median of `rounds`, both in turn so that drift hits both. */
export async function inTurn(
  ours: () => unknown,
  theirs: () => unknown,
  rounds: number,
): Promise<{ ours: number; theirs: number }> {
  const times = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const one = await cpuOf(ours);
    const other = await cpuOf(theirs);
    // The first round warms up.
    if (round > 0) {
      times.ours.push(one);
      times.theirs.push(other);
    }
  }
  return { ours: median(times.ours), theirs: median(times.theirs) };
}

async function cpuOf(run: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
