// A filter that counts while it is typed. The address follows a moment later: a field that showed what the address says would lose keys that
// are pressed before it does, and a date would begin anew with each of them.
import { type InputHTMLAttributes, useEffect, useRef, useState } from "react";
import { TextField } from "../design/field";

/** After the last key, in milliseconds. */
const REST_MS = 300;

interface TypedFieldProps extends Omit<InputHTMLAttributes<HTMLInputElement>, "value" | "onChange"> {
  label: string;
  text: string;
  onType: (text: string) => void;
}

export function TypedField({ label, text, onType, ...rest }: TypedFieldProps) {
  const [typed, setTyped] = useState(text);
  const told = useRef(text);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  // The address changed by another way: a step back, a link.
  useEffect(() => {
    if (text === told.current) return;
    told.current = text;
    setTyped(text);
  }, [text]);
  useEffect(() => () => clearTimeout(timer.current), []);
  // What stands in the address when it is told, not when it was typed.
  const tell = useRef(onType);
  useEffect(() => {
    tell.current = onType;
  });
  const type = (now: string) => {
    setTyped(now);
    clearTimeout(timer.current);
    // A year that is not typed to its end, such as 0020.
    if (now.startsWith("0") && rest.type?.startsWith("date")) return;
    timer.current = setTimeout(() => {
      told.current = now;
      tell.current(now);
    }, REST_MS);
  };
  return <TextField label={label} {...rest} value={typed} onChange={(event) => type(event.target.value)} />;
}
