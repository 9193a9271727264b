// A filter by text: it counts when it is entered, not while it is typed.
import { useState } from "react";
import { TextField } from "../design/field";

interface SearchProps {
  label: string;
  text: string;
  onSearch: (text: string) => void;
  /** It stands with others, so that it is no landmark by itself. */
  among?: boolean;
}

/** Give it `key={text}`, so that another address shows its own text. */
export function SearchField({ label, text, onSearch, among }: SearchProps) {
  const [typed, setTyped] = useState(text);
  return (
    <form
      role={among ? undefined : "search"}
      className="field wide"
      onSubmit={(event) => {
        event.preventDefault();
        onSearch(typed.trim());
      }}
    >
      <TextField label={label} type="search" value={typed} onChange={(event) => setTyped(event.target.value)} />
    </form>
  );
}
