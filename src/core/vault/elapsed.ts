/** How far the two clocks may drift apart before it means something: corrections by NTP are slower. */
const toleranceMs = 1_000;

/**
 * A clock of milliseconds for measuring age. It never runs backwards, whatever is done to the system's time, and
 * it counts the time in which the machine was suspended, which the monotonic clock alone leaves out.
 *
 * Being set forward cannot be told from having been suspended, so it counts as time that has passed: what is old
 * by either clock is old.
 */
export function elapsedClock(
  monotonic: () => number = () => performance.now(),
  wall: () => number = () => Date.now(),
): () => number {
  let gained = 0;
  let wallAtZero = wall() - monotonic();
  return () => {
    const counted = monotonic() + gained;
    const drift = wall() - wallAtZero - counted;
    if (drift > toleranceMs) {
      gained += drift;
      return counted + drift;
    }
    if (drift < -toleranceMs) wallAtZero += drift;
    return counted;
  };
}
