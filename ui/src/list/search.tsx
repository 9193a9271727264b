// A filter by text: it counts when it is entered, not while it is typed. The field stays where it is, and the focus in it.
import { useEffect, useRef, useState } from "react";
import { TextField } from "../design/field";

/** What is typed. Where the address shows another text than was entered here, after a step back or a link, it is that. */
export function useEntered(text: string): [typed: string, type: (typed: string) => void, enter: () => string] {
  const [typed, setTyped] = useState(text);
  const entered = useRef(text);
  useEffect(() => {
    if (text === entered.current) return;
    entered.current = text;
    setTyped(text);
  }, [text]);
  const enter = () => {
    entered.current = typed.trim();
    return entered.current;
  };
  return [typed, setTyped, enter];
}

interface SearchProps {
  label: string;
  text: string;
  onSearch: (text: string) => void;
  /** It stands with others, so that it is no landmark by itself. */
  among?: boolean;
}

export function SearchField({ label, text, onSearch, among }: SearchProps) {
  const [typed, type, enter] = useEntered(text);
  return (
    <form
      role={among ? undefined : "search"}
      className="field wide"
      onSubmit={(event) => {
        event.preventDefault();
        onSearch(enter());
      }}
    >
      <TextField label={label} type="search" value={typed} onChange={(event) => type(event.target.value)} />
    </form>
  );
}

interface EnteredProps {
  label: string;
  placeholder: string;
  text: string;
  onEnter: (text: string) => void;
}

/** One of several filters: it counts when it is left, too. */
export function EnteredField({ label, placeholder, text, onEnter }: EnteredProps) {
  const [typed, type, enter] = useEntered(text);
  const tell = () => {
    if (typed.trim() !== text) onEnter(enter());
  };
  return (
    <TextField
      label={label}
      placeholder={placeholder}
      value={typed}
      onChange={(event) => type(event.target.value)}
      onBlur={tell}
      onKeyDown={(event) => {
        if (event.key === "Enter") tell();
      }}
    />
  );
}
