import type { Ground } from './fault-ground.ts';
import { type Lane, openLane, type Strategy } from './fault-lane.ts';
import type { Call } from './recording-proxy.ts';

/** Where the process is killed: before call `at` is forwarded, or when its whole answer has come. */
export interface Point {
  readonly strategy: Strategy;
  readonly when: 'before' | 'after';
  readonly at: number;
}

export interface PointResult {
  readonly point: Point;
  /** Null: the rotation ended before it came to this call. */
  readonly call: Call | null;
  readonly faults: readonly string[];
  /** What the processes printed last, and the calls up to the kill; for failing points. */
  readonly trace: readonly string[];
}

export const strategies: readonly Strategy[] = ['none', 'users'];

export function pointName({ strategy, when, at }: Point): string {
  return `${strategy}:${when}:${at}`;
}

export function parsePoint(text: string): Point {
  const [, strategy, when, at] = /^(none|users):(before|after):([1-9]\d*)$/.exec(text) ?? [];
  if (!strategy || !when) throw new Error(`a point is like users:after:37, not ${text}`);
  return { strategy: strategy as Strategy, when: when as Point['when'], at: Number(at) };
}

/** One rotation that nothing happens to. @returns how many calls it makes */
export async function countCalls(lane: Lane, strategy: Strategy): Promise<readonly Call[]> {
  const subject = await lane.prepare(strategy);
  lane.recorder.arm(null);
  await lane.announce(subject);
  await lane.settle(subject);
  lane.recorder.disarm();
  const faults = await lane.faultsAfterRotation(subject);
  if (faults.length > 0) throw new Error(`a rotation left alone fails:\n${faults.join('\n')}`);
  return lane.recorder.calls.filter(({ index }) => index !== null);
}

/** One rotation whose process dies at `point`, or at the call `catches` names, and is started again. */
export async function runPoint(
  lane: Lane,
  point: Point,
  catches: (call: Call) => boolean = ({ index }) => index === point.at,
): Promise<PointResult> {
  const { recorder } = lane;
  const subject = await lane.prepare(point.strategy);
  const killed = new AbortController();
  let call: Call | null = null;
  let death: Promise<void> | null = null;
  recorder.arm({
    when: point.when,
    catches,
    spring: async (caught) => {
      call = caught;
      killed.abort();
      death = lane.kill();
      await death;
      return 'drop';
    },
  });
  const faults: string[] = [];
  try {
    await lane.announce(subject);
    await lane.settle(subject, { signal: killed.signal });
    recorder.disarm();
    if (death !== null) {
      await death;
      await lane.start();
      await lane.settle(subject);
    }
    faults.push(...(await judge(lane, subject)));
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
  }
  recorder.disarm();
  const trace = faults.length === 0 ? [] : [...callLines(recorder.calls), ...lane.lines.slice(-80)];
  return { point, call, faults, trace };
}

function callLines(calls: readonly Call[]): readonly string[] {
  const counted = calls.filter(({ index }) => index !== null).slice(-25);
  return counted.map(({ index, kind, label }) => `call ${index} ${kind} ${label}`);
}

/** Rotated once; or untouched, with an end that says so, and then the next trigger rotates it. */
async function judge(
  lane: Lane,
  subject: Awaited<ReturnType<Lane['prepare']>>,
): Promise<readonly string[]> {
  const journals = await lane.journals(subject);
  if (journals.some(({ state }) => state === 'DONE')) return lane.faultsAfterRotation(subject);
  const latest = await lane.latest(subject);
  const isUntouched = latest.version === subject.version;
  if (!isUntouched || !(await lane.logsIn(latest.user, latest.password))) {
    return [`neither rotated nor untouched: ${journals.map(({ state }) => state).join(', ')}`];
  }
  const traces = await lane.faultsOfTraces(subject);
  await lane.announce(subject);
  await lane.settle(subject);
  return [...traces, ...(await lane.faultsAfterRotation(subject))];
}

/** How many points of a series may be missed and tried again: timing moves a call or two. */
const tries = 20;

export interface Series {
  readonly strategy: Strategy;
  readonly when: Point['when'];
  /** Calls of a rotation left alone. */
  readonly calls: number;
}

/** The points of all series, handed out one by one. */
class Jobs {
  readonly #work: {
    readonly series: Series;
    readonly again: number[];
    next: number;
    misses: number;
    isOver: boolean;
  }[];

  constructor(series: readonly Series[]) {
    this.#work = series.map((one) => ({
      ...{ series: one, again: [], next: 1, misses: 0, isOver: false },
    }));
  }

  take(): Point | null {
    const open = this.#work.find(({ isOver, again }) => !isOver || again.length > 0);
    if (!open) return null;
    const { strategy, when } = open.series;
    return { strategy, when, at: open.again.shift() ?? open.next++ };
  }

  /** A rotation ended before it came to its point: the series is over, or the point comes again. */
  missed(point: Point): void {
    const work = this.#work.find(
      ({ series }) => series.strategy === point.strategy && series.when === point.when,
    );
    if (!work) return;
    if (point.at > work.series.calls) work.isOver = true;
    else if (++work.misses <= tries) work.again.push(point.at);
  }
}

interface LaneWork {
  readonly lanes: number;
  readonly prefix: string;
  readonly onResult?: (result: PointResult) => void;
}

/**
 * Kills at call 1, 2, … of each series until a rotation ends unkilled, on several lanes at once.
 * @returns every point that was tried, that is, at which a process was killed
 */
export function sweepPoints(
  ground: Ground,
  options: LaneWork & { readonly series: readonly Series[] },
): Promise<readonly PointResult[]> {
  const jobs = new Jobs(options.series);
  return runLanes(ground, options, jobs);
}

/** Kills at exactly these points. */
export async function runPoints(
  ground: Ground,
  options: LaneWork & { readonly points: readonly Point[] },
): Promise<PointResult[]> {
  const left = [...options.points];
  return runLanes(ground, options, {
    take: () => left.shift() ?? null,
    missed: (point) => void left.push({ ...point, at: point.at - 1 }),
  });
}

async function runLanes(
  ground: Ground,
  { lanes, prefix, onResult }: LaneWork,
  jobs: Pick<Jobs, 'take' | 'missed'>,
): Promise<PointResult[]> {
  const results: PointResult[] = [];
  const runLane = async (_: unknown, index: number) => {
    let lives = 0;
    const open = () => openLane(ground, { name: `${prefix}${index}x${++lives}` });
    let lane = await open();
    for (let point = jobs.take(); point !== null; point = jobs.take()) {
      const result = await runPoint(lane, point);
      const isFailed = result.faults.length > 0;
      if (result.call === null) jobs.missed(point);
      if (result.call === null && !isFailed) continue;
      results.push(result);
      onResult?.(result);
      if (!isFailed) continue;
      // What a failing point left behind must not fail the next.
      await lane.close();
      lane = await open();
    }
    await lane.close();
  };
  await Promise.all(Array.from({ length: lanes }, runLane));
  return results;
}

/** What a person needs to look into a failing point. */
export function explain({ point, call, faults, trace }: PointResult): string {
  const name = pointName(point);
  const what = call ? `${call.kind} ${call.label}` : 'was not reached';
  return [
    `FAILED ${name} (${what})`,
    ...faults.map((fault) => `  ${fault}`),
    `  again, alone: KEYTURN_FAULT_POINT=${name} npm run test:faults`,
    ...trace.slice(-60).map((line) => `    ${line}`),
  ].join('\n');
}
