// Text in which backticks mark what is typed as it stands.
export function Prose({ text }: { text: string }) {
  return text.split("`").map((part, at) => (at % 2 === 1 ? <code key={at}>{part}</code> : part));
}
