// Something to copy: a command, or a value that is shown this once.
import { useState } from "react";
import { Button } from "./button";

export function Copyable({ name, text }: { name: string; text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  const scrolls = text.length > 1_000 || text.split("\n").length > 16;
  return (
    <div className="secret">
      {/* A long one scrolls, also by the keyboard. */}
      <pre aria-label={name} tabIndex={scrolls ? 0 : undefined}>
        {text}
      </pre>
      <Button small onClick={() => void copy()}>
        {copied ? "Copied" : "Copy"}
      </Button>
    </div>
  );
}
