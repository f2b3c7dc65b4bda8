/** Whether `glob`, in which `*` stands for any characters, names `text`; without regard to case. */
export function isLike(text: string, glob: string): boolean {
  const wanted = glob.toLowerCase();
  const found = text.toLowerCase();
  const [first = '', ...rest] = wanted.split('*');
  const last = rest.pop();
  if (last === undefined) return found === wanted;
  if (!found.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const next = found.indexOf(part, at);
    if (next < 0) return false;
    at = next + part.length;
  }
  return found.length - last.length >= at && found.endsWith(last);
}
